"""Checkpoints of a training: files in Ray Train's run folder inside the artifact's folder.

A checkpoint is one file in a folder whose name holds the number of images seen and a checksum of the file. So a
checkpoint proves by itself that it is complete, and training resumes from the newest complete one after a kill, a full
disk or a failing one. Ray Train keeps the newest checkpoints and removes the others.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from dpt_ray.core.collective import agree, from_first_worker
from dpt_ray.core.training.state import ForeignCheckpointError, StateCopy, TrainState
from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.storage import stores
from dpt_ray.distributed.events import Event, stored
from dpt_ray.errors import StoreFailureError, UserError

CHECKPOINT_FOLDER = "checkpoints"
"""Ray Train's run folder."""

CHECKPOINT_FILE = "state.safetensors"
KEPT = 2
"""Number of checkpoints that are kept; training resumes from the second one if the newest is damaged."""

_RAY_LIST = "checkpoint_manager_snapshot.json"
_PREFIX = "images_"
_DIGITS = 16
"""Hexadecimal digits of the checksum in a checkpoint's name."""


class NotStoredError(Exception):
    """The first worker could not store a file. All workers raise it; on the first one it has the error as its cause."""


class DamagedCheckpointError(Exception):
    """The content of a checkpoint differs from what was stored."""


def run_storage(folder: str) -> dict[str, Any]:
    """Return Ray Train's settings for the place of a run's checkpoints.

    A local folder is passed as a path. For any other folder, Ray Train gets the filesystem of this package, so that its
    requests have the same credentials, retries and timeouts.
    """
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    filesystem, path = stores.filesystem(folder)
    if isinstance(filesystem, LocalFileSystem):
        return {"storage_path": path}
    return {"storage_path": path, "storage_filesystem": PyFileSystem(FSSpecHandler(filesystem))}


def begin_attempt(folder: str) -> list[str]:
    """Remove Ray Train's list of earlier attempts' checkpoints; return their names, newest first.

    Ray Train overwrites the list in place. With a truncated list, or one that names a missing folder, a run cannot
    resume or start. The list is not needed, since checkpoints are found by their names.
    """
    stores.remove_tree(stores.join(folder, CHECKPOINT_FOLDER, _RAY_LIST))
    return list_checkpoints(folder)


def remove_checkpoints(folder: str) -> None:
    """Remove all checkpoints of a finished training."""
    stores.remove_tree(stores.join(folder, CHECKPOINT_FOLDER))


def store_together(is_first: bool, store: Callable[[], None]) -> None:
    """Let the first worker store a file. Every worker must call this, so that all of them end if it fails.

    Raises:
        NotStoredError: the first worker could not store the file. All workers raise it.
    """
    failure = None
    if is_first:
        try:
            store()
        except UserError as error:
            failure = error
    if agree(failure is not None):
        raise NotStoredError from failure


@dataclass(frozen=True)
class Restored:
    """The checkpoint that a training resumes from.

    Attributes:
        name: name of the checkpoint; None if training starts from the beginning.
        notes: one line for each checkpoint that could not be used.
    """

    name: str | None
    notes: tuple[str, ...] = ()


class CheckpointWriter:
    """Stores checkpoints in the background. Every worker has one and calls it at the same steps.

    Ray Train removes all but the newest checkpoints that are reported in this attempt, and fails if one of them is
    missing. It does not know those of earlier attempts. They are removed here, as soon as there are newer ones. In its
    local mode it removes none, so all are removed here.

    Args:
        folder: URL of the artifact's folder.
        rank: rank of this worker.
        restored: the checkpoint that the training resumed from.
        left: names of the checkpoints of earlier attempts.
        ray_keeps: whether Ray Train is told of checkpoints and removes old ones; False in its local mode.
        report: receives the event of each checkpoint that the first worker has stored, in a thread.
    """

    def __init__(
        self,
        folder: str,
        rank: int,
        restored: Restored,
        left: Sequence[str],
        ray_keeps: bool = True,
        report: Callable[[Event], object] = lambda event: None,
    ):
        self._folder, self._is_first = folder, rank == 0
        self._ray_keeps, self._report = ray_keeps, report
        self._stored: list[str] = []
        self._obsolete = [
            [name for name in left if name != restored.name],  # once there is one newer checkpoint
            [name for name in left if name == restored.name],  # once there are two
        ]
        self._thread = ThreadPoolExecutor(1)
        self._pending: tuple[int, Future[str] | None] | None = None

    def save(self, state: TrainState) -> None:
        """Start to store the state after the previous checkpoint is stored, so that at most one is in memory.

        Raises:
            NotStoredError: the previous checkpoint could not be stored.
        """
        self.settle()
        copy = state.copy() if self._is_first or state.sharded else None
        future = self._thread.submit(self._store, copy, state.images_seen) if copy and self._is_first else None
        self._pending = state.images_seen, future

    def settle(self, wait: bool = True) -> None:
        """Report the checkpoint that was being stored to Ray Train.

        Args:
            wait: whether to wait until it is stored. If not, and it is not stored yet, nothing happens.

        Raises:
            NotStoredError: it could not be stored.
        """
        if self._pending is None:
            return
        images, future = self._pending
        if not wait and not agree(future is not None and future.done()):
            return
        self._pending = None
        stored: list[str] = []
        store_together(self._is_first, lambda: stored.append(future.result()) if future else None)
        if self._ray_keeps:
            _report_to_ray(images, "".join(stored))

    def _store(self, copy: StateCopy, images: int) -> str:
        """Write a checkpoint and return its name; runs in the thread, since the checksum takes time, too."""
        began = time.monotonic()
        content = copy.to_bytes()
        name = checkpoint_name(images, content)
        run = stores.join(self._folder, CHECKPOINT_FOLDER)
        stores.write_bytes(stores.join(run, name, CHECKPOINT_FILE), content)
        for old in self._obsolete.pop(0) if self._obsolete else []:
            if old != name:  # the same again, whole this time
                stores.remove_tree(stores.join(run, old))
        self._stored.append(name)
        if not self._ray_keeps and len(self._stored) > KEPT:
            stores.remove_tree(stores.join(run, self._stored.pop(0)))
        self._report(stored(images, len(content), time.monotonic() - began))
        return name


def _report_to_ray(images: int, name: str) -> None:
    import ray.train
    from ray.train import Checkpoint, CheckpointUploadMode

    checkpoint = None
    if name:
        storage = ray.train.get_context().get_storage()
        path = storage.build_checkpoint_path_from_name(name)
        checkpoint = Checkpoint(path, storage.storage_filesystem)
    ray.train.report({"images": images}, checkpoint=checkpoint, checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD)


def checkpoint_name(images: int, content: bytes) -> str:
    """Return the name of a checkpoint's folder; later ones come later in alphabetical order."""
    return f"{_PREFIX}{images:015d}-{sha256(content)[:_DIGITS]}"


def is_intact(name: str, content: bytes) -> bool:
    """Whether a checkpoint's content has the checksum in its name; a name without one proves nothing."""
    checksum = name.partition("-")[2]
    return not checksum or sha256(content)[:_DIGITS] == checksum


def list_checkpoints(folder: str) -> list[str]:
    """Return the names of all checkpoints of a training, complete or not, newest first."""
    names = stores.list_folders(stores.join(folder, CHECKPOINT_FOLDER))
    return sorted((name for name in names if name.startswith(_PREFIX)), reverse=True)


def images_of(names: Sequence[str]) -> int:
    """Return the images seen at the newest of some checkpoints; 0 without any.

    Args:
        names: names of checkpoints, newest first.
    """
    digits = names[0].removeprefix(_PREFIX).partition("-")[0] if names else "0"
    return int(digits) if digits.isdigit() else 0


def read_checkpoint(folder: str, name: str) -> bytes:
    """Return a checkpoint's content.

    Raises:
        DamagedCheckpointError: the checkpoint is missing, or its content differs from what was stored.
        UserError: the checkpoint cannot be read, so its content is unknown.
    """
    place = stores.join(folder, CHECKPOINT_FOLDER, name)
    if CHECKPOINT_FILE not in {file["name"] for file in stores.list_files(place)}:
        raise DamagedCheckpointError(f"{CHECKPOINT_FILE} is missing")
    try:
        content = stores.read_bytes(stores.join(place, CHECKPOINT_FILE))
    except StoreFailureError:
        raise
    except UserError as error:
        fix = f"if it is lost, remove {place} alone: training then goes on from the checkpoint before it"
        raise UserError(error.what, where=error.where, fix=fix) from error
    if not is_intact(name, content):
        raise DamagedCheckpointError(f"the checksum of its {len(content):,} bytes is another than when it was stored")
    return content


def restore(state: TrainState, folder: str) -> Restored:
    """Load the newest complete checkpoint. Every worker must call this; all load the same one.

    Raises:
        ForeignCheckpointError: there are complete checkpoints, and none belongs to this training.
        UserError: a checkpoint cannot be read, or only some workers can read it.
    """
    notes: list[str] = []
    foreign: ForeignCheckpointError | None = None
    names = from_first_worker("\n".join(list_checkpoints(folder))).split()
    for name in names:
        problem: Exception | None = None
        try:
            state.load_bytes(read_checkpoint(folder, name))
        except DamagedCheckpointError as error:
            problem = error
        except ForeignCheckpointError as error:
            problem = error
            foreign = foreign or (error if "-" in name else None)  # only a checksum proves that it is complete
        if not agree(problem is not None):
            return Restored(name, tuple(notes))
        if agree(problem is None):
            raise UserError(
                "some training workers read this checkpoint, and others do not",
                where=stores.join(folder, CHECKPOINT_FOLDER, name),
                fix="check that every node sees the same files there",
            )
        notes.append(f"checkpoint {name} is damaged ({problem})")
    if foreign is not None:
        raise foreign
    if notes:
        notes.append(f"no checkpoint is whole in {stores.join(folder, CHECKPOINT_FOLDER)}: starts from the beginning")
    return Restored(None, tuple(notes))
