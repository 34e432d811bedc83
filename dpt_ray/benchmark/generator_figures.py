"""Results of the benchmarks of the generator."""

from dataclasses import dataclass

from dpt_ray.core.training.compute import Precision
from dpt_ray.data.storage.json_records import Record, optional


@dataclass(frozen=True)
class Setting(Record):
    """The conditions of a measurement.

    Attributes:
        size: a key of `SIZES`.
        batch: images in a step, or sampled at once.
        device: "cpu", or the name of the GPU.
        threads: threads of PyTorch.
        machine_cpus: CPUs of the machine.
        precision: precision of our implementation.
        compiled: whether our network is compiled.
        rounds: timed rounds of each contestant.
        seconds: approximate length of a turn, s.
    """

    size: str
    batch: int
    device: str
    threads: int
    machine_cpus: int | None
    precision: Precision
    compiled: bool
    rounds: int
    seconds: float


@dataclass(frozen=True)
class RayShare(Record):
    """Times of a training step under Ray Train and without it, as medians.

    Attributes:
        steps: steps of a training.
        ray_ms: time of a step under Ray Train, ms.
        alone_ms: time of a step without it, ms.
        share: share of the step's time under Ray Train that Ray Train adds.
    """

    steps: int
    ray_ms: float
    alone_ms: float
    share: float


@dataclass(frozen=True)
class TrainingFigures(Setting):
    """Results of `measure_generator`.

    Attributes:
        images_per_second: contestant -> its rate in every round.
        median: contestant -> its median rate, in images/s.
        ratios: contestant -> our median rate over its own.
        parameters: parameters of the network.
        flops_per_image: floating-point operations of an image in a step.
        flops_per_second: contestant -> floating-point operations/s at its median rate.
        peak_flops_per_second: peak of the GPU in bfloat16; None if it is not known.
        ray: overhead of Ray Train; None if it was not measured.
    """

    images_per_second: dict[str, list[float]]
    median: dict[str, float]
    ratios: dict[str, float]
    parameters: int
    flops_per_image: float
    flops_per_second: dict[str, float]
    peak_flops_per_second: float | None
    ray: RayShare | None = optional()


@dataclass(frozen=True)
class SamplingFigures(Setting):
    """Results of `measure_sampling`.

    Attributes:
        guidance_scale: s in the paper's convention.
        evaluations_per_image: evaluations of the network for an image.
        images_per_second: contestant -> its rate in every round.
        median: contestant -> its median rate, in images/s.
        ratios: contestant -> our median rate over its own.
    """

    guidance_scale: float
    evaluations_per_image: int
    images_per_second: dict[str, list[float]]
    median: dict[str, float]
    ratios: dict[str, float]
