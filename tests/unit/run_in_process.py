"""A whole tiny run without Ray: units are made in this process, and trainings store all that they store, untrained."""

import importlib
import pkgutil
from typing import Any

import pytest

from dpt_ray.core.training.state import TrainState
from dpt_ray.data.storage import stores
from dpt_ray.distributed import checkpoints
from dpt_ray.distributed.checkpoints import CheckpointWriter, NotStoredError, begin_attempt, restore, store_together
from dpt_ray.distributed.inference import _Runner
from dpt_ray.distributed.progress import ProgressLine
from dpt_ray.distributed.resources import Resources
from dpt_ray.distributed.training_job import HISTORY_FILE, TrainingJob
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.snapshots import snapshot_files
from dpt_ray.pipeline import graph, steps
from dpt_ray.pipeline.artifacts import claims
from dpt_ray.pipeline.execution import packed_labelled, step
from dpt_ray.pipeline.execution import train_network as training


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let steps be made in this process."""
    names = [f"{steps.__name__}.{name}" for _, name, _ in pkgutil.iter_modules(steps.__path__)]
    for name in [*names, packed_labelled.__name__]:
        module = importlib.import_module(name)
        for attribute, stand_in in (("run_units", _run_units), ("inference_resources", lambda config: ONE)):
            if hasattr(module, attribute):
                monkeypatch.setattr(module, attribute, stand_in)
    monkeypatch.setattr(training, "run_training", _run_training)
    monkeypatch.setattr(training, "training_resources", lambda config, lanes: ONE)
    monkeypatch.setattr(graph.connection, "connect", lambda config: None)
    monkeypatch.setattr(step, "StepProgress", ProgressLine)
    monkeypatch.setattr(claims, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "_report_to_ray", lambda images, name: None)


ONE = Resources(1, 1.0, 0.0)


def _run_units(worker_class, settings, units, **_: Any) -> list[dict[str, Any]]:
    runner = _Runner(worker_class, settings)
    return [runner._run(unit) for unit in units]


def _run_training(job: TrainingJob, **_: Any) -> None:
    state = job.build()
    left = begin_attempt(job.folder)
    writer = CheckpointWriter(job.folder, 0, restore(state, job.folder), left)
    try:
        _store_all(job, state, writer)
    except NotStoredError as error:
        raise error.__cause__ or error from None


def _store_all(job: TrainingJob, state: TrainState, writer: CheckpointWriter) -> None:
    for images in (1, 2, job.schedule.total_images):
        if images > state.images_seen:
            state.images_seen = images
            state.history = [{"images": images, "loss": 1.0}]
            writer.save(state)
    for name, content in snapshot_files(state):
        store_together(True, lambda name=name, content=content: _store(job, name, content))
    writer.settle()
    store_together(True, lambda: _store(job, HISTORY_FILE, stores.json_bytes(state.history)))
    store_together(True, lambda: _store(job, NETWORK_FILE, job.finish(state)))


def _store(job: TrainingJob, name: str, content: bytes) -> None:
    stores.write_bytes(stores.join(job.folder, name), content)
