"""The state at the end of a training, kept with its artifact so that a longer training can go on from it."""

from dpt_ray.data.storage import stores
from dpt_ray.distributed.checkpoints import (
    CHECKPOINT_FILE,
    CHECKPOINT_FOLDER,
    DamagedCheckpointError,
    checkpoint_name,
    is_intact,
)

STATE_FOLDER = "state"
_ENDING = ".safetensors"


def keep_state(folder: str, images: int, content: bytes) -> None:
    """Store the state at the end of a training in its folder, under a name with the file's checksum.

    Args:
        folder: URL of the artifact's folder.
        images: number of images seen.
        content: the state, a checkpoint.

    Raises:
        UserError: it cannot be stored.
    """
    kept = stores.join(folder, STATE_FOLDER)
    stores.remove_tree(kept)  # of an earlier attempt, after which workers were started again
    stores.write_bytes(stores.join(kept, checkpoint_name(images, content) + _ENDING), content)


def find_state(folder: str) -> str | None:
    """Return the name of the state that a training's folder keeps; None if it keeps none."""
    names = [file["name"] for file in stores.list_files(stores.join(folder, STATE_FOLDER))]
    return next((name.removesuffix(_ENDING) for name in sorted(names, reverse=True) if name.endswith(_ENDING)), None)


def begin_from_state(folder: str, earlier: str, name: str) -> None:
    """Copy the state of a finished training to another training, which then resumes from it as from a checkpoint.

    Args:
        folder: URL of the folder of the other training, which has no checkpoint.
        earlier: URL of the folder of the finished training.
        name: name of its state.

    Raises:
        DamagedCheckpointError: the content differs from what was stored.
        UserError: the state cannot be read, or the copy cannot be stored.
    """
    content = stores.read_bytes(stores.join(earlier, STATE_FOLDER, name + _ENDING))
    if not is_intact(name, content):
        raise DamagedCheckpointError(f"its state of {len(content):,} bytes is damaged")
    stores.write_bytes(stores.join(folder, CHECKPOINT_FOLDER, name, CHECKPOINT_FILE), content)
