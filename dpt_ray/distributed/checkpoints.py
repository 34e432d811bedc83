"""Checkpoints of a training, kept by Ray Train in its run folder inside the artifact's folder."""

import json
import tempfile
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem
from safetensors import SafetensorError
from safetensors.torch import load

from dpt_ray.core.training.state import TrainState
from dpt_ray.data import stores
from dpt_ray.errors import UserError

CHECKPOINT_FOLDER = "checkpoints"
"""Ray Train's run folder."""

CHECKPOINT_FILE = "state.safetensors"
_RAY_LIST = "checkpoint_manager_snapshot.json"
_RESCUED_FILE = "rescued.safetensors"


def run_storage(folder: str) -> dict[str, Any]:
    """Return Ray Train's settings for where a run's checkpoints go.

    A local folder is named as it is. For any other, Ray Train gets the filesystem that all else here uses, so
    that checkpoints have the same credentials, retries and timeouts.
    """
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    filesystem, path = stores.filesystem(folder)
    if isinstance(filesystem, LocalFileSystem):
        return {"storage_path": path}
    return {"storage_path": path, "storage_filesystem": PyFileSystem(FSSpecHandler(filesystem))}


def report_checkpoint(state: TrainState, rank: int) -> None:
    """Hand the state to Ray Train, which stores it while training goes on; every worker must call this."""
    import ray.train
    from ray.train import Checkpoint, CheckpointUploadMode

    metrics = {"images": state.images_seen}
    content = state.to_bytes() if rank == 0 or state.sharded else b""
    if rank != 0:
        ray.train.report(metrics)
        return
    folder = tempfile.mkdtemp(prefix="checkpoint-")
    (Path(folder) / CHECKPOINT_FILE).write_bytes(content)
    ray.train.report(
        metrics,
        checkpoint=Checkpoint.from_directory(folder),
        checkpoint_dir_name=f"images_{state.images_seen:015d}",
        checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
        delete_local_checkpoint_after_upload=True,
    )


def newest_checkpoint(folder: str) -> bytes | None:
    """Return the newest checkpoint that Ray Train vouches for, else a rescued one; None at the very start."""
    import ray.train

    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as local:
            return (Path(local) / CHECKPOINT_FILE).read_bytes()
    rescued = stores.join(folder, _RESCUED_FILE)
    return stores.read_bytes(rescued) if stores.exists(rescued) else None


def rescue_checkpoint(folder: str) -> None:
    """Save the newest whole checkpoint if Ray Train's list of them is damaged, and clear Ray Train's folder.

    Ray Train overwrites its list in place, so a kill at that moment leaves a part of it, and with such
    a list a run can neither go on nor start.
    """
    run = stores.join(folder, CHECKPOINT_FOLDER)
    ray_list = stores.join(run, _RAY_LIST)
    if not stores.exists(ray_list) or _is_json(stores.read_bytes(ray_list)):
        return
    for name in sorted(stores.list_folders(run), reverse=True):
        try:
            content = stores.read_bytes(stores.join(run, name, CHECKPOINT_FILE))
            load(content)
        except (UserError, SafetensorError):  # not one, or not whole
            continue
        stores.write_bytes(stores.join(folder, _RESCUED_FILE), content)
        break
    stores.remove_tree(run)


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def remove_checkpoints(folder: str) -> None:
    """Remove all checkpoints of a training that is finished."""
    stores.remove_tree(stores.join(folder, CHECKPOINT_FOLDER))
    stores.remove_tree(stores.join(folder, _RESCUED_FILE))
