"""Code that the training steps share."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.effects import read_settings
from dpt_ray.config.encoder_section import EncoderConfig
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.core.seeds import derive_seed
from dpt_ray.core.semi_supervised.algorithms import algorithm_class
from dpt_ray.core.training.loop import Schedule
from dpt_ray.core.training.state import TrainState
from dpt_ray.data.loading.source import ImageSource
from dpt_ray.data.storage import stores
from dpt_ray.distributed.checkpoints import remove_checkpoints
from dpt_ray.distributed.job_log import tell
from dpt_ray.distributed.preview import Preview
from dpt_ray.distributed.ray_training import run_training
from dpt_ray.distributed.resources import training_resources
from dpt_ray.distributed.skipped_log import read_skipped_log
from dpt_ray.distributed.training_job import HISTORY_FILE, TrainingJob
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.start_weights import FoundWeights, describe_new_classes, start_from
from dpt_ray.pipeline.artifacts.trained_network import TrainingFacts, read_history_file
from dpt_ray.pipeline.execution.extension import go_on
from dpt_ray.pipeline.execution.step import StepContext

HISTORY_ROWS, STEPS_PER_ROW = 200, 500
"""A loss curve has so many points, and more where a point would stand for more steps than that."""


def train_network(
    context: StepContext,
    data: DataConfig,
    config: ClassifierConfig | EncoderConfig | GeneratorConfig,
    *,
    sources: Mapping[str, tuple[ImageSource, int]],
    build: Callable[[], TrainState],
    finish: Callable[[TrainState], bytes],
    seed: int,
    preview: Preview | None = None,
) -> TrainingFacts:
    """Train in the context's folder and return the facts; the checkpoints there are removed at the end."""
    cluster = context.cluster
    if not isinstance(config, GeneratorConfig):
        # Both need a generator: a loss that is a mean over rows, and a network that names its blocks.
        cluster = cluster.model_copy(update={"gradient_accumulation": 1, "shard_weights": False})
    images_per_step = sum(batch for _, batch in sources.values())
    log_every = max(images_per_step, min(config.images // HISTORY_ROWS, STEPS_PER_ROW * images_per_step))
    job = TrainingJob(
        config=config,
        data=data,
        cluster=cluster,
        build=build,
        finish=finish,
        sources=dict(sources),
        schedule=Schedule(
            total_images=config.images,
            images_per_step=images_per_step,
            log_every=log_every,
            checkpoint_seconds=cluster.checkpoint_seconds,
            snapshots=config.ema_snapshots if isinstance(config, GeneratorConfig) else 0,
        ),
        seed=derive_seed(config.seed, seed),
        folder=context.folder,
        owns=context.owns,
    )
    # Both exist if the job stopped after the training and before its manifest was written.
    if not (stores.exists(context.file(NETWORK_FILE)) and stores.exists(context.file(HISTORY_FILE))):
        go_on(context)
        run_training(
            job,
            resources=training_resources(cluster, data.lanes),
            progress=context.progress(math.ceil(config.images / images_per_step) * images_per_step),
            policy=context.policy,
            callback=context.callback,
            preview=preview,
        )
    if context.owns():  # otherwise another job still uses them
        remove_checkpoints(context.folder)
    history = read_history_file(context.file(HISTORY_FILE))
    images_in = sum(source.num_images for source, _ in sources.values())
    return TrainingFacts(
        images_seen=int(history[-1]["images"]),
        loss=history[-1]["loss"],
        images_in=images_in,
        skipped=tuple(read_skipped_log(context.folder)),
    )


def started(
    context: StepContext, start: FoundWeights | None, num_classes: int, build: Callable[[], TrainState]
) -> Callable[[], TrainState]:
    """Return `build`, or a function that returns the same training with the weights of `start`.

    Args:
        context: what the step is made with.
        start: weights that were checked against the settings.
        num_classes: number of classes of the data. If the weights know another number, a line says so.
        build: returns the training with random weights.
    """
    if start is None:
        return build
    if line := describe_new_classes(start, num_classes):
        tell(f"{context.title}: {line}")
    return partial(start_from, start.url, start.checksum, build)


def training_settings(
    config: ClassifierConfig | EncoderConfig | GeneratorConfig, data: DataConfig, seed: int
) -> dict[str, Any]:
    """Return every setting that changes a trained network, except those of latents and the weights it starts with.

    Settings that the chosen network, optimizer, process or algorithm does not read are left out.
    """
    if isinstance(config, ClassifierConfig):
        read = read_settings(config, algorithm_class(config.algorithm.name).consistency_view)
    else:
        read = read_settings(config)
    return {
        "training": {name: value for name, value in read.items() if name not in ("probe", "latents", "from")},
        "image_size": data.image_size,
        "channels": data.channels,
        "lanes": data.lanes,
        "shuffle_window": data.shuffle_window,
        "seed": seed,
    }
