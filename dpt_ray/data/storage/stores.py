"""Files at any fsspec URL: reads of whole files, and atomic writes.

Other packages import this module alone; filesystems and listings have files of their own beside it.
"""

import errno
import json
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from fsspec.implementations.local import LocalFileSystem

from dpt_ray.config.places import without_credentials as without_credentials
from dpt_ray.data.storage.filesystems import NO_REMOVAL, NO_WRITE, user_errors
from dpt_ray.data.storage.filesystems import absolute_url as absolute_url
from dpt_ray.data.storage.filesystems import filesystem as filesystem
from dpt_ray.data.storage.filesystems import is_remote as is_remote
from dpt_ray.data.storage.filesystems import join as join
from dpt_ray.data.storage.filesystems import special_file as special_file
from dpt_ray.data.storage.filesystems import special_url as special_url
from dpt_ray.data.storage.folder_listings import StoredFile as StoredFile
from dpt_ray.data.storage.folder_listings import changed_at as changed_at
from dpt_ray.data.storage.folder_listings import list_files as list_files
from dpt_ray.data.storage.folder_listings import list_folders as list_folders
from dpt_ray.data.storage.folder_listings import list_tree as list_tree
from dpt_ray.errors import UserError, expecting

_PARTIAL = ".partial"


def open_file(url: str) -> BinaryIO:
    """Open a file for reading and seeking.

    Raises:
        OSError: the file cannot be opened, or is a pipe, a socket or a device.
    """
    fs, path = filesystem(url)
    return _open_local(path) if isinstance(fs, LocalFileSystem) else fs.open(path, "rb")


def _open_local(path: str) -> BinaryIO:
    _refuse_special(os.stat(path))
    # With O_NONBLOCK this does not block if a pipe has replaced the file since the check.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _refuse_special(os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _refuse_special(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if kind := special_file(status.st_mode):
        raise OSError(errno.EINVAL, f"it is {kind}")


def read_bytes(url: str) -> bytes:
    """Return a file's whole content.

    Raises:
        UserError: the file does not exist or cannot be read.
    """
    return _read(url)


def read_range(url: str, start: int, stop: int) -> bytes:
    """Return bytes [start, stop) of a file, fewer where it ends before.

    Raises:
        UserError: as `read_bytes`.
    """
    return _read(url, start=start, end=stop)


def file_size(url: str) -> int:
    """Return a file's length in bytes.

    Raises:
        UserError: the file does not exist or cannot be looked up.
    """
    fs, path = filesystem(url)
    with user_errors(url, "cannot be looked up"):
        try:
            return int(fs.size(path))
        except (FileNotFoundError, NotADirectoryError):
            raise UserError("does not exist", where=url) from None


def _read(url: str, **limits: int) -> bytes:
    fs, path = filesystem(url)
    with user_errors(url, "cannot be read"):
        try:
            return _read_local(path, **limits) if isinstance(fs, LocalFileSystem) else fs.cat_file(path, **limits)
        except (FileNotFoundError, NotADirectoryError):
            raise UserError("does not exist", where=url) from None


def _read_local(path: str, start: int = 0, end: int | None = None) -> bytes:
    with _open_local(path) as file:
        size = os.fstat(file.fileno()).st_size
        stop = size if end is None else min(end, size)
        file.seek(start)
        return file.read(max(0, stop - start))


def write_bytes(url: str, data: bytes) -> None:
    """Write a file atomically: readers see the old content or the new one, never a part.

    A local file is written beside its place and renamed. A PUT to an object store is atomic by itself.

    Raises:
        UserError: the file cannot be written.
    """
    fs, path = filesystem(url)
    with user_errors(url, NO_WRITE):
        if isinstance(fs, LocalFileSystem):
            _write_local(Path(path), data)
        else:
            fs.pipe_file(path, data)


_NOT_LINKED = (errno.EEXIST, errno.ENOENT, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def write_new(url: str, data: bytes) -> bool:
    """Write a file that does not exist yet, atomically; of several processes at once, one succeeds.

    Returns:
        Whether the file was written. Object stores and filesystems without hard links cannot tell whether it is new, so
        nothing is written there. The same holds if another process removes the unfinished file while it cleans up.

    Raises:
        UserError: the file cannot be written.
    """
    fs, path = filesystem(url)
    if not isinstance(fs, LocalFileSystem):
        return False
    with user_errors(url, NO_WRITE), _partial_file(Path(path), data) as partial:
        try:
            os.link(partial, path)
        except OSError as error:
            if error.errno not in _NOT_LINKED:
                raise
            return False
    return True


def _write_local(path: Path, data: bytes) -> None:
    with _partial_file(path, data) as partial:
        os.replace(partial, path)


@contextmanager
def _partial_file(path: Path, data: bytes) -> Iterator[Path]:
    """Write a file beside its place. It is removed at the end if it is still there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{_PARTIAL}")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def is_partial(name: str) -> bool:
    """Whether a name is that of a local file that was being written; a killed process leaves such files behind."""
    file = name.rpartition("/")[2]
    return file.startswith(".") and file.endswith(_PARTIAL)


def append_local(url: str, data: bytes) -> None:
    """Append to a local file, which is made if it is absent; a reader may see a part of what is appended.

    Raises:
        UserError: the file cannot be written. It then ends as before.
    """
    path = Path(filesystem(url)[1])
    with user_errors(url, NO_WRITE):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab", buffering=0) as file:
            before = file.tell()
            try:
                left = memoryview(data)
                while left:
                    left = left[file.write(left) :]
            except OSError:
                file.truncate(before)
                raise


def exists(url: str) -> bool:
    """Whether a file or folder exists, without a listing cache.

    Where the user may read but not list files, a folder counts as absent.

    Raises:
        UserError: the file or folder cannot be looked up.
    """
    fs, path = filesystem(url)
    fs.invalidate_cache()
    with user_errors(url, "cannot be looked up"):
        return fs.exists(path)


def remove_tree(url: str) -> None:
    """Remove a folder and everything in it, if it exists.

    Raises:
        UserError: the folder cannot be removed.
    """
    fs, path = filesystem(url)
    fs.invalidate_cache()
    with user_errors(url, NO_REMOVAL), suppress(FileNotFoundError):  # another process may remove it in between
        if fs.exists(path):
            fs.rm(path, recursive=True)


def read_json(url: str) -> Any:
    """Return a JSON file's content.

    Raises:
        UserError: the file is absent, cannot be read, or is not JSON.
    """
    content = read_bytes(url)
    with expecting("valid JSON", url):
        return json.loads(content)


def write_json(url: str, value: Any) -> None:
    """Write a JSON file atomically."""
    write_bytes(url, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Return the content of a JSON file."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def check_writable(url: str) -> None:
    """Write and remove a small file, to find an unwritable folder before any work.

    Raises:
        UserError: a file cannot be written to the folder or removed from it.
    """
    probe = join(url, f".writable-{uuid.uuid4().hex}")
    write_bytes(probe, b"")
    fs, path = filesystem(probe)
    with user_errors(probe, NO_REMOVAL):
        fs.rm_file(path)
