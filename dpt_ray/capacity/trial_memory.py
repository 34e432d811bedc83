"""The memory that the processes of one trial of a search need, on all nodes together."""

from dpt_ray.capacity.storage_bytes import classifier_checkpoint, encoder_checkpoint, generator_checkpoint
from dpt_ray.config.schema import RunConfig

TRIAL_PROCESSES, PROCESS_BYTES = 8, 256 * 2**20
"""Processes of a trial that has one training worker: the trial itself, Ray Train's controller, the worker, readers or
inference, and helpers. Private memory of a process that has imported torch and Ray."""

STATE_COPIES = 4
"""Copies of a training's state in the memory of a worker: the state itself, gradients, and two checkpoints on their
way to storage."""

USUAL_CLASSES = 1000
"""Classes that are assumed where the settings name no number. They change the last layer only."""


def trial_bytes(config: RunConfig) -> int:
    """Return the bytes that the processes of a trial need, without the images in the object store.

    Args:
        config: the settings of the trial.
    """
    classes, channels = config.data.num_classes or USUAL_CLASSES, config.data.channels
    size, depth = config.stage2.canvas(config.data)
    states = [generator_checkpoint(config.stage2, size=size, channels=depth, num_classes=classes)]
    states += [
        classifier_checkpoint(stage, channels=channels, num_classes=classes, num_unlabelled=1)
        for stage in (config.stage1, config.stage3)
        if stage.model.name != "linear_probe"
    ]
    if config.has_stage0:
        states.append(encoder_checkpoint(config.stage0, size=config.data.image_size, channels=channels))
    workers = config.cluster.most_workers
    return PROCESS_BYTES * (TRIAL_PROCESSES + workers - 1) + STATE_COPIES * workers * max(states)
