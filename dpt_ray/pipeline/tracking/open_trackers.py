"""The trackers that the settings of a run name."""

from collections.abc import Iterator

from dpt_ray.config.schema import RunConfig, TrackingConfig
from dpt_ray.pipeline.tracking.metrics_file import MetricsFile
from dpt_ray.pipeline.tracking.tracker import Tracker


def open_trackers(config: RunConfig, folder: str, title: str) -> list[Tracker]:
    """Return the trackers of a run; `metrics.jsonl` is always one of them.

    Args:
        config: settings of the run.
        folder: URL of the run's folder.
        title: name and id of the run.

    Raises:
        UserError: a tracker is not installed or cannot be reached.
    """
    tracking: TrackingConfig = config.tracking
    trackers: list[Tracker] = [MetricsFile(folder)]
    if tracking.tensorboard:
        from dpt_ray.pipeline.tracking.tensorboard_events import TensorBoardEvents

        trackers.append(TensorBoardEvents(folder))
    settings = dict(flat_settings(config.model_dump(mode="json")))
    if tracking.mlflow:
        from dpt_ray.pipeline.tracking.mlflow_tracker import MlflowTracker

        trackers.append(MlflowTracker(tracking.mlflow, config.name, title, folder, settings))
    if tracking.wandb:
        from dpt_ray.pipeline.tracking.wandb_tracker import WandbTracker

        trackers.append(WandbTracker(tracking.wandb, title, folder, settings))
    return trackers


def flat_settings(tree: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the dotted name and the value of each setting of a JSON-like tree."""
    if isinstance(tree, dict) and tree:
        for name, value in tree.items():
            yield from flat_settings(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, tree
