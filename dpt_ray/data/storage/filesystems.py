"""Filesystems of URLs, and errors of storage as messages for people."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from dpt_ray.data.storage.faults import fix_of
from dpt_ray.errors import UserError

_S3 = ("s3://", "s3a://")
NO_WRITE, NO_REMOVAL = "cannot be written", "cannot be removed"
"""What failed, for `user_errors`: only these two are mended by space or permissions to write."""
_PERMISSIONS_FIX = (
    "check that AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) belong to a user "
    "who may list, get, put and delete there"
)


def absolute_url(url: str) -> str:
    """Return `url`, with a relative local path made absolute, since workers run in other directories."""
    return url if "://" in url else str(Path(url).expanduser().absolute())


def is_remote(url: str) -> bool:
    """Whether a URL belongs to another filesystem than the local one."""
    return not isinstance(filesystem(url)[0], LocalFileSystem)


def join(url: str, *parts: str) -> str:
    """Append path parts to a URL."""
    return "/".join([url.rstrip("/"), *parts])


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the filesystem of `url` and the path in it.

    The filesystem of S3 is `ObjectStore`, which retries after temporary failures.

    Raises:
        UserError: no filesystem is known for this kind of URL, or its settings are wrong.
    """
    if url.startswith(_S3):
        from dpt_ray.data.storage.object_store import ObjectStore  # slow to import, and not needed for local files

        return ObjectStore(), ObjectStore._strip_protocol(url)
    try:
        return fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise UserError(f"no storage is known for this URL ({error})", where=url) from None


@contextmanager
def user_errors(url: str, cannot: str) -> Iterator[None]:
    """Raise a `UserError` for each storage error within the context.

    Args:
        url: URL of the file or folder.
        cannot: the failed operation, such as `cannot be read`.
    """
    try:
        yield
    except PermissionError as error:
        fix = _PERMISSIONS_FIX if url.startswith(_S3) else None
        raise UserError(f"{cannot} (permission denied)", where=url, fix=fix or _fix(error, cannot)) from error
    except OSError as error:
        raise UserError(f"{cannot} ({_reason(error)})", where=url, fix=_fix(error, cannot)) from error


def _fix(error: OSError, cannot: str) -> str | None:
    return fix_of(error) if cannot in (NO_WRITE, NO_REMOVAL) else None


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


_SPECIAL_FILES = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def special_file(mode: int) -> str | None:
    """Return the description of a pipe, socket or device, given a file's mode; None for other files.

    They must not be opened: that may block for ever, act on hardware, or yield bytes without end.
    """
    return next((f"{kind}, which is never opened" for is_kind, kind in _SPECIAL_FILES if is_kind(mode)), None)


def special_url(url: str) -> str | None:
    """Return `special_file` of the file at a URL; None for a plain file, a folder, and a missing file."""
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        with suppress(OSError):
            return special_file(os.stat(path).st_mode)
    return None
