"""How long the stages of a run take on this machine: from a few steps of each, run here, or from measured rates."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from dpt_ray.capacity import flops as compute
from dpt_ray.capacity.measured import cpu_flops
from dpt_ray.capacity.sizes import STAGE_NAMES
from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.config.encoder_section import EncoderConfig
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.config.schema import RunConfig
from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.core.diffusion.process_settings import build_process, evaluations_per_image
from dpt_ray.core.fitting_batch import SAMPLED_ON_CPU
from dpt_ray.core.training.from_settings import (
    classifier_training,
    encoder_training,
    generator_training,
    images_per_step,
    uses_unlabelled,
)
from dpt_ray.core.training.loop import Schedule, train
from dpt_ray.core.training.state import TrainState
from dpt_ray.data.loading.batches import Columns
from dpt_ray.data.loading.feed import Feed, training_batches
from dpt_ray.data.loading.order import ImageOrder, Segment
from dpt_ray.data.loading.source import CONFIDENCE, IMAGE, LABEL
from dpt_ray.networks.metric_networks import MetricNetwork, find_network, open_network

MEASURED_SECONDS = 5.0
"""About how long a stage is measured."""
_WARM_UP_STEPS = 2
_IMAGES = 512
"""Images of random pixels that a measured training repeats; the cost does not depend on their content."""


@dataclass(frozen=True)
class StageTime:
    """How long a stage computes on this machine.

    Attributes:
        id: a key of `run_size.STAGE_NAMES`.
        seconds: without starts of processes, and without reading that training waits for.
    """

    id: str
    seconds: float

    @property
    def name(self) -> str:
        """Name of the stage in tables."""
        return STAGE_NAMES[self.id]


def estimate_times(config: RunConfig, num_classes: int, num_images: int | None, cores: int) -> list[StageTime]:
    """Return the times of the stages by the operations that they need and the measured rate of a CPU core.

    Args:
        config: all settings.
        num_classes: number of classes.
        num_images: number of training images; None if it is not known, and labelling them is left out.
        cores: CPU cores that compute.
    """

    def seconds(images: float, per_image: float, network: str) -> float:
        return images * per_image / (cpu_flops(network) * cores)

    size, channels = config.data.image_size, config.data.channels
    drawn = config.sampling.per_class * num_classes
    times = {}
    if config.has_stage0:
        network = config.stage1.model_copy(update={"model": config.stage0.model})
        forward = compute.classifier_flops(network, size=size, channels=channels, num_classes=num_classes)
        per_image = compute.self_supervised_flops_per_image(config.stage0, forward)
        times["stage0"] = seconds(config.stage0.images, per_image, config.stage0.model.name)
    for id, stage in (("stage1", config.stage1), ("stage3", config.stage3)):
        encoding = compute.encoding_network(config, stage)
        forward = compute.classifier_flops(encoding, size=size, channels=channels, num_classes=num_classes)
        if stage.model.name == "linear_probe":
            times["encoding" if id == "stage1" else "encoding_pseudo_images"] = seconds(
                (num_images or 0) if id == "stage1" else drawn,
                forward,
                "vit" if encoding is stage else encoding.model.name,
            )
            continue
        per_image = compute.training_flops_per_image(stage, forward)
        times[id] = seconds(stage.images, per_image, stage.model.name)
        if id == "stage1" and num_images is not None:
            times["pseudo_labels"] = seconds(num_images, forward, stage.model.name)
    side, depth = config.stage2.canvas(config.data)
    forward = compute.generator_flops(config.stage2, size=side, channels=depth, num_classes=num_classes)
    name = config.stage2.model.name
    times["stage2"] = seconds(_generator_images(config), compute.training_flops_per_image(config.stage2, forward), name)
    evaluations = evaluations_per_image(config.sampling, build_process(config.stage2))
    times["pseudo_images"] = seconds(drawn, forward * evaluations, name)
    if config.evaluation.generation:
        read = (num_images or 0) + drawn  # and the held-out images, which are few
        times["generation_metrics"] = seconds(read, compute.metric_flops(config.evaluation), "vit")
    return [StageTime(id, times[id]) for id in STAGE_NAMES if times.get(id)]


def measure_times(config: RunConfig, num_classes: int, num_images: int | None, device: str) -> list[StageTime]:
    """Return the times of stages 0, 1, 2, 3, sampling and metrics, from a few steps of each on this machine.

    A linear probe has no training steps, and is left out. One process computes, on random pixels in memory.

    Args:
        config: all settings.
        num_classes: number of classes.
        num_images: number of training images; None if it is not known, and reading them for metrics is left out.
        device: `cpu` or `cuda`.
    """
    times = {}
    if config.has_stage0:
        times["stage0"] = config.stage0.images * _encoder_step(config, device) / config.stage0.batch
    for id, stage in (("stage1", config.stage1), ("stage3", config.stage3)):
        if stage.model.name == "linear_probe":
            continue
        times[id] = stage.images * _classifier_step(stage, config, num_classes, device) / images_per_step(stage)
    state, step = _generator_step(config, num_classes, device)
    times["stage2"] = _generator_images(config) * step / config.stage2.batch
    evaluations = evaluations_per_image(config.sampling, build_process(config.stage2))
    drawn = config.sampling.per_class * num_classes
    times["pseudo_images"] = drawn * evaluations * _evaluation(state, config, device)
    if config.evaluation.generation and (network := find_network(config.evaluation)) is not None:
        times["generation_metrics"] = ((num_images or 0) + drawn) * _features(network, config, device)
    return [StageTime(id, times[id]) for id in STAGE_NAMES if id in times]


def _classifier_step(stage: ClassifierConfig, config: RunConfig, num_classes: int, device: str) -> float:
    """Return the seconds of a step."""
    state = classifier_training(
        stage, channels=config.data.channels, num_classes=num_classes, num_unlabelled=_IMAGES, seed=config.seed
    ).to(device)
    shape = (config.data.channels, config.data.image_size, config.data.image_size)
    feeds = {"labelled": _feed(shape, stage.labelled_batch, config.data.lanes, num_classes)}
    if uses_unlabelled(stage):
        feeds["unlabelled"] = _feed(shape, stage.unlabelled_batch, config.data.lanes, None)
    return _step_seconds(state, feeds, stage, images_per_step(stage), config.data.lanes, device)


def _encoder_step(config: RunConfig, device: str) -> float:
    """Return the seconds of a step of stage 0."""
    stage, size, channels = config.stage0, config.data.image_size, config.data.channels
    state = encoder_training(stage, image_size=size, channels=channels, seed=config.seed).to(device)
    feeds = {"images": _feed((channels, size, size), stage.batch, config.data.lanes, None)}
    return _step_seconds(state, feeds, stage, stage.batch, config.data.lanes, device)


def _generator_step(config: RunConfig, num_classes: int, device: str) -> tuple[TrainState, float]:
    """Return the training's state and the seconds of a step. Latents are measured as images of their shape."""
    side, depth = config.stage2.canvas(config.data)
    state = generator_training(
        config.stage2, image_size=side, channels=depth, num_classes=num_classes, seed=config.seed
    ).to(device)
    feeds = {"images": _feed((depth, side, side), config.stage2.batch, config.data.lanes, num_classes)}
    step = _step_seconds(state, feeds, config.stage2, config.stage2.batch, config.data.lanes, device)
    return state, step


def _step_seconds(
    state: TrainState,
    feeds: dict[str, Feed],
    stage: ClassifierConfig | EncoderConfig | GeneratorConfig,
    per_step: int,
    lanes: int,
    device: str,
) -> float:
    batches = training_batches(feeds, lanes=range(lanes), seed=0, device=device)

    def run(steps: int) -> None:
        end = state.images_seen + steps * per_step
        train(state, batches, Schedule(end, per_step, 10**12, 1e9), stage.optimizer, precision=stage.precision)

    run(_WARM_UP_STEPS)
    return _seconds_a_call(lambda: run(1), device)


@torch.inference_mode()
def _evaluation(state: TrainState, config: RunConfig, device: str) -> float:
    """Return the seconds of one evaluation of the generator for one image, in sampling."""
    side, depth = config.stage2.canvas(config.data)
    batch = config.cluster.sampling_batch or SAMPLED_ON_CPU
    network = state.model.eval()
    noisy = torch.zeros(batch, depth, side, side, device=device)
    levels, labels = torch.ones(batch, device=device), torch.zeros(batch, dtype=torch.long, device=device)
    network(noisy, levels, labels)
    return _seconds_a_call(lambda: network(noisy, levels, labels), device) / batch


def _features(network: MetricNetwork, config: RunConfig, device: str) -> float:
    """Return the seconds for the features of one image in which pseudo images are measured."""
    images = torch.zeros(8, config.data.channels, config.data.image_size, config.data.image_size, dtype=torch.uint8)
    features = open_network(network, device)
    return _seconds_a_call(lambda: features(images), device) / len(images)


def _seconds_a_call(call: Callable[[], object], device: str) -> float:
    """Call for about `MEASURED_SECONDS`, at least once, and return the median time."""
    times: list[float] = []
    while sum(times) < MEASURED_SECONDS:
        began = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def _feed(shape: tuple[int, int, int], batch: int, lanes: int, num_classes: int | None) -> Feed:
    """Return batches of random pixels, labelled if `num_classes` is given."""
    images = np.random.default_rng(0).integers(0, 256, (_IMAGES, *shape), dtype=np.uint8)
    labels = np.arange(_IMAGES) % num_classes if num_classes else np.full(_IMAGES, UNKNOWN_LABEL)
    confidence = np.ones(_IMAGES, np.float32)

    def read(segment: Segment) -> Iterator[Columns]:
        rows = slice(segment.start, segment.stop)
        yield {IMAGE: images[rows], LABEL: labels[rows], CONFIDENCE: confidence[rows]}

    return Feed(ImageOrder([_IMAGES], seed=0, lanes=lanes, shuffle_window=_IMAGES), read, batch)


def _generator_images(config: RunConfig) -> int:
    """Return the number of images of both trainings of stage 2, that without labels and that with them."""
    return config.stage2.images + config.stage2.pretraining.images
