"""`--dry-run`: the plan of a job, with the finished artifacts and the cost of the missing ones."""

import os

import torch

from dpt_ray.capacity.driver_size import describe_driver, driver_size, machine_bytes
from dpt_ray.capacity.placement_table import describe_readers
from dpt_ray.capacity.run_size import size_run
from dpt_ray.capacity.size_table import describe_size
from dpt_ray.capacity.step_times import estimate_times, measure_times
from dpt_ray.capacity.stored_data import stored_data
from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.config.encoder_section import EncoderConfig
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.config.schema import RunConfig
from dpt_ray.core.diffusion.process_settings import build_process, evaluations_per_image
from dpt_ray.core.models.network_settings import build_classifier, build_generator
from dpt_ray.core.training.from_settings import encoder_training, images_per_step
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.distributed.placement import Plan
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.damage import find_damage
from dpt_ray.pipeline.artifacts.store import ArtifactStore
from dpt_ray.pipeline.cluster_checks import find_placement
from dpt_ray.pipeline.execution.extension import find_shorter
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.graph import in_order
from dpt_ray.pipeline.start_checks import check_could_write
from dpt_ray.pipeline.steps.encode_latents import EncodeLatents
from dpt_ray.pipeline.steps.index_dataset import Dataset
from dpt_ray.pipeline.steps.labelled_subset import LabelledSubset
from dpt_ray.pipeline.steps.train_classifier import TrainClassifier
from dpt_ray.pipeline.steps.train_encoder import TrainEncoder
from dpt_ray.pipeline.steps.train_generator import TrainGenerator
from dpt_ray.tables import duration, format_bytes, text_table

_FLOAT_BYTES = 4
_COPIES = {"sgd": 4, "adam": 5, "adamw": 5}
"""Tensors of the size of the weights in a training, by optimizer: weights, average, gradient, one or two moments."""


def describe_plan(config: RunConfig, targets: list[Step], store: ArtifactStore, *, measure: bool = False) -> str:
    """Return the plan as text; the models are built without memory, which checks their settings. Nothing is written.

    Args:
        config: all settings.
        targets: the steps that are wanted.
        store: the artifacts that are made already.
        measure: run a few steps of each training to say how long it takes.

    Raises:
        UserError: results could not be written, the labels do not fit indexed images, or the nodes do not host the
            workers.
    """
    check_could_write(store.root)
    rows = [("step", "state", "what", "address")]
    steps = in_order(targets)
    for number, step in enumerate(steps, start=1):
        rows.append((f"{number} {step.title}", *_state(step, store), step.address))
    index = _training_index(steps, store)
    if index is not None:
        _check_labels(steps, index)
    plan, placed = find_placement(config, steps, store)
    costs, size = _costs(config, steps, store), [*_size(config, index, plan), *_driver(index)]
    times = _times(config, steps, index, measure)
    return "\n".join([f"results: {store.root}", "", text_table(rows), "", *costs, "", *placed, *times, *size])


def _state(step: Step, store: ArtifactStore) -> tuple[str, str]:
    """Return whether a step's artifact is made, and what it holds or what making it will do."""
    artifact = store.find(step.name, step.fingerprint)
    if artifact is None:
        shorter = find_shorter(store, step.name, step.recorded)
        return "to make", f"{step.plan()}; {shorter.plan}" if shorter else step.plan()
    if damage := find_damage(artifact):
        return "to make again", str(damage)
    return "made", step.summary(step.facts_type.read(artifact))


def _training_index(steps: list[Step], store: ArtifactStore) -> DatasetIndex | None:
    """Return the index of the training images; None if it is still to be made."""
    data = next((step for step in steps if isinstance(step, Dataset) and step.is_training_set), None)
    artifact = store.find(data.name, data.fingerprint) if data else None
    return read_index(artifact.url) if artifact else None


def _check_labels(steps: list[Step], index: DatasetIndex) -> None:
    for step in steps:
        if isinstance(step, LabelledSubset):
            step.check_labels(index)


def _size(config: RunConfig, index: DatasetIndex | None, plan: Plan | None) -> list[str]:
    """Size the cluster for a whole run, where the training set is known and GPUs are asked for."""
    if not config.cluster.gpus_per_worker:
        return []
    if index is None:
        return ["", "size of the cluster: known once the data is indexed (dpt prepare)"]
    size = size_run(config, stored_data(index))
    return ["", *describe_size(size), *(describe_readers(size, plan) if plan else [])]


def _driver(index: DatasetIndex | None) -> list[str]:
    """Say what the driver needs where there are many images."""
    if index is None:
        return []
    needed = driver_size(index.num_images, len(index.shards), index.num_classes)
    return describe_driver(needed, machine_bytes())


def _times(config: RunConfig, steps: list[Step], index: DatasetIndex | None, measure: bool) -> list[str]:
    """Say how long the stages take on this machine; on GPUs only if they are measured."""
    classes = next((step.num_classes for step in steps if isinstance(step, Dataset)), None)
    if classes is None and index is not None:
        classes = index.num_classes
    if classes is None:
        return ["time: known once the data is indexed (set data.num_classes to know it now)"]
    on_gpu = config.cluster.gpus_per_worker > 0
    if measure:
        if on_gpu and not torch.cuda.is_available():
            raise UserError("this machine has no GPU to measure on", where="--dry-run=measure", fix="measure on a node")
        times = measure_times(config, classes, index.num_images if index else None, "cuda" if on_gpu else "cpu")
        source = f"from some steps of each on this machine, one {'GPU' if on_gpu else 'process'}"
    elif on_gpu:
        return []
    else:
        cores = config.cluster.local_cpus or os.cpu_count() or 1
        times = estimate_times(config, classes, index.num_images if index else None, cores)
        source = f"estimated for {cores} CPU cores, within a factor of three; --dry-run=measure measures it"
    total = sum(stage.seconds for stage in times)
    rows = [*((stage.name, duration(stage.seconds)) for stage in times), ("together", duration(total))]
    score = config.evaluation.classification_score
    more = ["the classification accuracy score takes at most as long again as stage 3"] if score else []
    if index is None and config.evaluation.generation and config.evaluation.network != "stage1":
        more.append("reading the training images for generation metrics is left out: their number is not known yet")
    return [f"time that the stages compute ({source}):", text_table(rows), *more]


def _costs(config: RunConfig, steps: list[Step], store: ArtifactStore) -> list[str]:
    classes = next((step.num_classes for step in steps if isinstance(step, Dataset)), None)
    if classes is None:
        return ["model sizes: known once the data is indexed (set data.num_classes to know them now)"]
    lines = []
    for step in steps:
        if isinstance(step, TrainClassifier):
            lines.append(_training_cost(step.title, step.stage.config, classes, config))
        elif isinstance(step, EncodeLatents):
            lines.append(_latents_cost(step, store))
        elif isinstance(step, TrainEncoder):
            lines.append(_training_cost(step.title, config.stage0, classes, config))
        elif isinstance(step, TrainGenerator):
            lines.append(_training_cost(step.title, step.config, classes, config))
    per_image = evaluations_per_image(config.sampling, build_process(config.stage2))
    images = config.sampling.per_class * classes
    pixels = images * config.data.channels * config.data.image_size**2
    if any(step.name == "pseudo_images" for step in steps):
        lines.append(
            f"pseudo images: {images:,} images, {per_image} network evaluations each, "
            f"at most {format_bytes(pixels)} of pixels"
        )
    return lines


def _latents_cost(step: EncodeLatents, store: ArtifactStore) -> str:
    each, images = step.bytes_per_image(), step.parents["images"]
    indexed = store.find(images.name, images.fingerprint)
    total = f", {format_bytes(each * images.facts_type.read(indexed).images)} together" if indexed else ""
    return f"{step.title}: {each:,} bytes for each image{total}"


def _training_cost(
    title: str, stage: ClassifierConfig | EncoderConfig | GeneratorConfig, classes: int, config: RunConfig
) -> str:
    model: torch.nn.Module
    with torch.device("meta"):
        if isinstance(stage, ClassifierConfig):
            model = build_classifier(stage.model, channels=config.data.channels, num_classes=classes)
            per_step = images_per_step(stage)
        elif isinstance(stage, EncoderConfig):
            form = {"image_size": config.data.image_size, "channels": config.data.channels}
            model = encoder_training(stage, **form, seed=config.seed).model
            per_step = stage.batch
        else:
            size, channels = stage.canvas(config.data)
            model = build_generator(stage, image_size=size, channels=channels, num_classes=classes)
            per_step = stage.batch
    parameters = sum(parameter.numel() for parameter in model.parameters())
    state = parameters * _FLOAT_BYTES * _COPIES[stage.optimizer.name]
    steps = -(-stage.images // per_step)
    return (
        f"{title}: {parameters:,} parameters, {stage.images:,} images in {steps:,} steps of {per_step}, "
        f"{format_bytes(state)} of weights and optimizer state in each worker, besides activations"
    )
