"""Errors of a disk as messages for users: it is full, over a quota, read-only, forbidden or failing."""

import errno
import re

from dpt_ray.errors import UserError

_AGAIN = "the same command then goes on"
_FIXES = {
    errno.ENOSPC: f"free some space there; {_AGAIN}",
    errno.EDQUOT: f"remove files there, or request a larger quota; {_AGAIN}",
    errno.EROFS: "make it writable, or set root to another place",
    errno.EACCES: "give this user the right to write there, or set root to another place",
    errno.EPERM: "give this user the right to write there, or set root to another place",
    errno.EIO: f"the disk, or the connection to it, fails: check it; {_AGAIN}",
}
_REASONS = {
    errno.ENOSPC: "No space left on device",
    errno.EDQUOT: "Disk quota exceeded",
    errno.EROFS: "Read-only file system",
    errno.EACCES: "Permission denied",
    errno.EPERM: "Operation not permitted",
    errno.EIO: "Input/output error",
}
"""The C library's messages in English; `os.strerror` may return another language."""

_NUMBER = re.compile(r"\[errno (\d+)\]", re.IGNORECASE)
_FILE = re.compile(r"'(/[^'\n]+)'")


def fix_of(error: OSError) -> str | None:
    """Return what the user can do about a failed write; None for other errors."""
    return _FIXES.get(error.errno or 0)


def storage_fault(error: BaseException) -> UserError | None:
    """Return a `UserError` for an error of a disk, which its number or its text shows; None for other errors.

    The text matters because some errors cross processes in wrappers that keep only their text.
    """
    number = error.errno if isinstance(error, OSError) else None
    text = str(error)
    if number not in _FIXES:
        found = next(
            (n for n in map(int, _NUMBER.findall(text)) if n in _FIXES),
            next((n for n in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) if _REASONS[n] in text), None),
        )
        if found is None:
            return None
        number = found
    file = getattr(error, "filename", None) or next(iter(_FILE.findall(text)), None)
    where = file if isinstance(file, str) else None
    if where is None and number in (errno.EACCES, errno.EPERM):  # permissions of something other than a file
        return None
    return UserError(
        f"cannot be used ({_REASONS[number]})" if where else _REASONS[number], where=where, fix=_FIXES[number]
    )
