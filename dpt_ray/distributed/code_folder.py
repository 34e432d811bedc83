"""The folder in which torch keeps compiled code on this machine: one that only the user can write."""

import os
import stat
import tempfile
from pathlib import Path

FOLDER_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def private_code_folder(otherwise: Path) -> Path:
    """Return the folder for compiled code: in the user's cache folder, or in `otherwise` if that is not safe.

    By default torch loads code from a folder in /tmp with a known name, where another user can place code in advance.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpt_ray"
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = cache.lstat()
        safe = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    except (OSError, RuntimeError):
        safe = False
    return (cache if safe else otherwise) / "compiled"


def use_private_code_folder() -> None:
    """Let torch keep compiled code in a folder that only this user can write, unless another one is set."""
    if FOLDER_VARIABLE not in os.environ:
        folder = private_code_folder(Path(tempfile.gettempdir()))
        if folder.parent == Path(tempfile.gettempdir()):  # nothing there is safe, so nothing is kept
            folder = Path(tempfile.mkdtemp(prefix="dpt_ray_compiled_"))
        os.environ[FOLDER_VARIABLE] = str(folder)
