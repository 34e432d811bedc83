"""What the training steps share."""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field

from dpt_ray.config.effects import read_settings
from dpt_ray.config.schema import ClassifierConfig, DataConfig, GeneratorConfig
from dpt_ray.core.random import derive_seed
from dpt_ray.core.semi_supervised.menu import algorithm_class
from dpt_ray.core.training.loop import Schedule
from dpt_ray.core.training.state import TrainState
from dpt_ray.data import stores
from dpt_ray.data.documents import read_document
from dpt_ray.data.networks import NETWORK_FILE
from dpt_ray.data.skipped import skip_facts
from dpt_ray.data.source import ImageSource
from dpt_ray.distributed.checkpoints import remove_checkpoints
from dpt_ray.distributed.cluster import training_resources
from dpt_ray.distributed.ledger import read_ledger
from dpt_ray.distributed.training import HISTORY_FILE, TrainingJob, run_training
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts import REMOVE, Artifact
from dpt_ray.pipeline.graph import Workshop
from dpt_ray.pipeline.steps.data import summarise_skipped

HISTORY_ROWS, STEPS_PER_ROW = 200, 500
"""A loss curve has so many points, and more where a point would stand for more steps than that."""


def train_network(
    workshop: Workshop,
    data: DataConfig,
    config: ClassifierConfig | GeneratorConfig,
    *,
    sources: Mapping[str, tuple[ImageSource, int]],
    build: Callable[[], TrainState],
    finish: Callable[[TrainState], bytes],
    seed: int,
) -> dict[str, Any]:
    """Train in the workshop's folder and return the facts; its checkpoints are removed at the end."""
    images_per_step = sum(batch for _, batch in sources.values())
    log_every = max(images_per_step, min(config.images // HISTORY_ROWS, STEPS_PER_ROW * images_per_step))
    generator = isinstance(config, GeneratorConfig)
    job = TrainingJob(
        build=build,
        finish=finish,
        sources=dict(sources),
        optimizer=config.optimizer,
        schedule=Schedule(
            total_images=config.images,
            images_per_step=images_per_step,
            log_every=log_every,
            checkpoint_seconds=workshop.cluster.checkpoint_seconds,
            snapshots=config.ema_snapshots if generator else 0,
        ),
        lanes=data.lanes,
        shuffle_window=data.shuffle_window,
        seed=derive_seed(config.seed, seed),
        folder=workshop.folder,
        precision=config.precision,
        channels_last=workshop.cluster.channels_last,
        compile=workshop.cluster.compile,
        parts=workshop.cluster.gradient_accumulation if generator else 1,
        shard=workshop.cluster.shard_weights and generator,
    )
    network = workshop.file(NETWORK_FILE)
    if not stores.exists(network):  # else it was trained, and stopped before its manifest was written
        run_training(
            job,
            resources=training_resources(workshop.cluster),
            keep_bytes=workshop.cluster.keep_mib * 2**20,
            max_failures=workshop.cluster.max_failures,
            progress=workshop.progress(math.ceil(config.images / images_per_step) * images_per_step),
            policy=workshop.policy,
            looks=workshop.looks,
        )
    remove_checkpoints(workshop.folder)
    history = _history(workshop.file(HISTORY_FILE))
    images_in = sum(source.num_images for source, _ in sources.values())
    return {
        "images_seen": history[-1]["images"],
        "loss": history[-1]["loss"],
        **skip_facts(images_in, read_ledger(workshop.folder)),
    }


def training_settings(config: ClassifierConfig | GeneratorConfig, data: DataConfig, seed: int) -> dict[str, Any]:
    """Return every setting that changes a trained network, but for those of latents.

    Those that the chosen network, optimizer, process or algorithm does not read are not among them.
    """
    if isinstance(config, ClassifierConfig):
        read = read_settings(config, algorithm_class(config.algorithm.name).student)
    else:
        read = read_settings(config)
    return {
        "training": {name: value for name, value in read.items() if name not in ("probe", "latents")},
        "image_size": data.image_size,
        "channels": data.channels,
        "lanes": data.lanes,
        "shuffle_window": data.shuffle_window,
        "seed": seed,
    }


def read_history(artifact: Artifact) -> list[dict[str, float]]:
    """Return the loss curve of a trained network: rows with `images` and averaged metrics.

    Raises:
        UserError: it is absent, or none that this package wrote.
    """
    return _history(artifact.file(HISTORY_FILE))


_Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]


def _history(url: str) -> list[dict[str, float]]:
    rows = read_document(url, list[dict[str, _Whole | float]], "a training's history", REMOVE)
    if not rows or not all("images" in row for row in rows) or "loss" not in rows[-1]:
        raise UserError("is not a training's history (it lacks images or the last loss)", where=url, fix=REMOVE)
    return rows


def describe_training(images: int, *names: str) -> str:
    """Say what a training will do."""
    return f"training on {images:,} images ({', '.join(names)})"


def summarise_training(facts: Mapping[str, Any]) -> str:
    """Say what a training did."""
    return f"{facts['images_seen']:,} images, last loss {facts['loss']:.4g}" + summarise_skipped(facts)
