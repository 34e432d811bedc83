"""Results of the benchmarks of the generator."""

from dataclasses import dataclass

from dpt_ray.core.training.compute import Precision
from dpt_ray.data.storage.json_records import Record, optional
from dpt_ray.tables import markdown_table

OURS, PUBLISHED, MIXED = "ours", "published form, eager float32", "published form, eager bfloat16 autocast"
"""The contestants."""


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


def generator_table(figures: TrainingFigures | SamplingFigures) -> str:
    """Return the results of `measure_generator` or `measure_sampling` as Markdown."""
    parts = [
        f"{figures.size}, {figures.device}, {figures.threads} threads, {figures.precision}, compiled "
        f"{figures.compiled}, batch {figures.batch}; {figures.rounds} rounds in turns of about {figures.seconds:g} s."
    ]
    rates = figures.images_per_second
    rows = [
        (name, f"{median:,.2f}", f"{min(rates[name]):,.2f} to {max(rates[name]):,.2f}")
        for name, median in figures.median.items()
    ]
    parts.append(markdown_table([("contestant", "images/s, median", "slowest and fastest round"), *rows]))
    parts += [f"Ours against {name}: {ratio:.3f}." for name, ratio in figures.ratios.items()]
    if isinstance(figures, SamplingFigures):
        parts.append(
            f"{figures.evaluations_per_image} evaluations an image, guidance scale {figures.guidance_scale:g}."
        )
        return "\n\n".join(parts)
    speed, peak = figures.flops_per_second[OURS], figures.peak_flops_per_second
    used = f", {speed / peak:.1%} of the GPU's peak" if peak else ""
    parts.append(
        f"{figures.parameters:,} parameters, {figures.flops_per_image / 1e9:,.2f} GFLOP an image and step; "
        f"ours computes {speed / 1e12:,.3f} TFLOP/s{used}."
    )
    if figures.ray is not None:
        ray = figures.ray
        parts.append(
            f"Under Ray Train a step takes {ray.ray_ms:,.1f} ms, without it {ray.alone_ms:,.1f} ms (medians of "
            f"{ray.steps} steps): Ray's share is {ray.share:.1%}."
        )
    return "\n\n".join(parts)
