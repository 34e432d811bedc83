"""A folder that only this user can enter, for sockets, logs and secrets of a run on a shared machine.

A run removes its folder when it ends. The next run removes the folders of killed runs: each run holds a lock on its
folder, which the kernel releases when the process ends for any reason.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpt_ray.distributed.folder_guard import LOCK
from dpt_ray.errors import UserError

PREFIX = "dpt-"
LONGEST_BASE = 26
"""Most bytes in the path of the folder that contains private folders. The operating system limits the path of a Unix
socket to 107 bytes, and Ray's longest one below a private folder, `/dpt-........./r/session_<time>_<pid>/sockets/
plasma_store`, takes 81."""

REMOVALS = 8
"""Most attempts to remove a folder, over some 3 s."""

_locks: dict[Path, int] = {}
"""Folder that this process made -> descriptor of its locked file."""


def make_private_folder() -> Path:
    """Make a folder of mode 0700 with a short path, and remove the folders of killed runs of this user beside it.

    It is made in `RAY_TMPDIR` if that is set, otherwise in the default folder for temporary files, or in /tmp if the
    path of the default folder is long.

    Raises:
        UserError: `RAY_TMPDIR` is not usable, or no other folder is.
    """
    base = _base()
    _remove_left_behind(base)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))  # mode 0700, whatever the umask
    _locks[folder] = _lock(folder)
    return folder


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make a private folder for the context; see `make_private_folder`."""
    folder = make_private_folder()
    try:
        yield folder
    finally:
        remove_private_folder(folder)


def remove_private_folder(folder: Path) -> None:
    """Remove a folder that this process made, and its content."""
    lock = _locks.pop(folder)
    for attempt in range(REMOVALS):  # processes that are ending may still write to their logs
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
        time.sleep(0.1 * attempt)
    os.close(lock)


def _base() -> Path:
    """Return the folder to make private folders in."""
    chosen = os.environ.get("RAY_TMPDIR")
    candidates = [chosen] if chosen else [tempfile.gettempdir(), "/tmp"]
    for candidate in candidates:
        problem = _problem(Path(candidate))
        if problem is None:
            return Path(candidate)
    raise UserError(
        f"temporary files of a run cannot be kept there: {problem}",
        where=f"RAY_TMPDIR={chosen}" if chosen else str(candidate),
        fix=f"set RAY_TMPDIR to a folder of yours whose path has at most {LONGEST_BASE} bytes",
    )


def _problem(base: Path) -> str | None:
    """Return why private folders cannot be made in a folder."""
    if len(os.fsencode(base)) > LONGEST_BASE:
        return f"the path is longer than {LONGEST_BASE} bytes, too long for sockets below it"
    if not base.is_absolute():
        return "the path is not absolute"
    try:
        status = base.stat()
    except OSError as error:
        return error.strerror or "it cannot be read"
    if not stat.S_ISDIR(status.st_mode):
        return "it is not a folder"
    if not os.access(base, os.W_OK | os.X_OK):
        return "nothing may be written there"
    # A user who may rename entries of the base could replace our folder.
    shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
    if shared or status.st_uid not in (0, os.getuid()):
        return "other users may rename what is in it"
    return None


def _lock(folder: Path) -> int:
    """Lock a new folder for as long as this process lives; return the descriptor that holds the lock.

    The file gets its name after it is locked, so no other run can find it unlocked.
    """
    unnamed = folder / f"{LOCK}.new"
    descriptor = os.open(unnamed, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    unnamed.rename(folder / LOCK)
    return descriptor


def _remove_left_behind(base: Path) -> None:
    """Remove private folders of this user whose process has ended. Other folders are left alone."""
    for entry in os.scandir(base):
        if entry.name.startswith(PREFIX) and _is_private(entry):
            _remove_if_unlocked(Path(entry.path))


def _is_private(entry: os.DirEntry[str]) -> bool:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:  # its run has just ended
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) == 0o700


def _remove_if_unlocked(folder: Path) -> None:
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:  # it has no lock file: a run is making it, or it is not ours
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # its run has not ended
        pass
    finally:
        os.close(descriptor)
