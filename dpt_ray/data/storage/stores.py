"""Files at any fsspec URL: reads of whole files, and atomic writes."""

import datetime
import errno
import json
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NotRequired, TypedDict

import fsspec
from fsspec.implementations.local import LocalFileSystem

from dpt_ray.config.places import without_credentials as without_credentials
from dpt_ray.data.storage.faults import fix_of
from dpt_ray.errors import UserError, expecting


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


_S3 = ("s3://", "s3a://")
_NO_WRITE, _NO_REMOVAL = "cannot be written", "cannot be removed"
_PARTIAL = ".partial"
_PERMISSIONS_FIX = (
    "check that AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) belong to a user "
    "who may list, get, put and delete there"
)


@contextmanager
def _user_errors(url: str, cannot: str) -> Iterator[None]:
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
    return fix_of(error) if cannot in (_NO_WRITE, _NO_REMOVAL) else None


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
    with _user_errors(url, "cannot be looked up"):
        try:
            return int(fs.size(path))
        except (FileNotFoundError, NotADirectoryError):
            raise UserError("does not exist", where=url) from None


def _read(url: str, **limits: int) -> bytes:
    fs, path = filesystem(url)
    with _user_errors(url, "cannot be read"):
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
    with _user_errors(url, _NO_WRITE):
        if isinstance(fs, LocalFileSystem):
            _write_local(Path(path), data)
        else:
            fs.pipe_file(path, data)


def _write_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{_PARTIAL}")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
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
    with _user_errors(url, _NO_WRITE):
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
    with _user_errors(url, "cannot be looked up"):
        return fs.exists(path)


class StoredFile(TypedDict):
    """A file in a listing; `data/importing/tree.py` lists entries that are no files, too.

    Attributes:
        name: path below the listed folder. A name that ends with a slash is a folder whose files are not listed.
        url: its URL.
        size: bytes; None if the store does not report it, and for entries that are no files.
        changed: a text that changes with the content: an ETag or a time of change.
        broken: true for a link whose target does not exist.
        special: another kind of entry that cannot be opened, as `special_file` names it.
    """

    name: str
    url: str
    size: int | None
    changed: str
    broken: NotRequired[bool]
    special: NotRequired[str]


def list_files(url: str) -> list[StoredFile]:
    """Return the files directly in a folder, sorted by name.

    The list is empty if the folder is absent. A link to a file is listed with the size of that file.

    Raises:
        UserError: the folder cannot be listed, or a link in it is broken.
    """
    fs, path = filesystem(url)
    files: list[StoredFile] = []
    for entry in _entries(url):
        name = entry["name"].rstrip("/").rpartition("/")[2]
        if entry.get("islink"):
            try:
                entry = fs.info(entry["name"])
            except FileNotFoundError:
                raise UserError("is a link to a file that does not exist", where=join(url, name)) from None
        if entry["type"] == "file" and entry["name"] != path:  # the "folder" may be a file, which lists itself
            files.append({"name": name, "url": join(url, name), "size": entry["size"], "changed": _changed(entry)})
    return sorted(files, key=lambda file: file["name"])


def list_folders(url: str) -> list[str]:
    """Return the names of the folders directly in a folder, sorted; an empty list if it is absent.

    Raises:
        UserError: the folder cannot be listed.
    """
    folders = (entry["name"] for entry in _entries(url) if entry["type"] == "directory")
    return sorted(name.rstrip("/").rpartition("/")[2] for name in folders)


def list_tree(url: str) -> list[StoredFile]:
    """Return all files below a folder, at any depth, in the form of `list_files`; `name` is the path below the folder.

    Raises:
        UserError: the folder cannot be listed.
    """
    fs, path = filesystem(url)
    fs.invalidate_cache()
    with _user_errors(url, "cannot be listed"):
        try:
            found = fs.find(path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
    root = path.rstrip("/") + "/"
    files: list[StoredFile] = []
    for place, entry in found.items():
        if place.startswith(root) and entry["type"] == "file":
            name = place.removeprefix(root)
            files.append({"name": name, "url": join(url, name), "size": entry["size"], "changed": _changed(entry)})
    return sorted(files, key=lambda file: file["name"])


def _changed(entry: dict[str, Any]) -> str:
    """Return a text that changes with the content of a listed file: its ETag or its time of change."""
    return str(entry.get("ETag") or entry.get("mtime") or entry.get("LastModified") or "")


def changed_at(url: str) -> datetime.datetime | None:
    """Return when a file was written last, UTC; None if the store does not say it.

    Raises:
        UserError: the file does not exist or cannot be looked up.
    """
    fs, path = filesystem(url)
    with _user_errors(url, "cannot be looked up"):
        entry = fs.info(path)
    moment = entry.get("LastModified") or entry.get("mtime") or entry.get("created")
    if isinstance(moment, int | float):
        return datetime.datetime.fromtimestamp(moment, datetime.UTC)
    return moment.astimezone(datetime.UTC) if isinstance(moment, datetime.datetime) else None


def _entries(url: str) -> list[dict[str, Any]]:
    fs, path = filesystem(url)
    fs.invalidate_cache()
    with _user_errors(url, "cannot be listed"):
        try:
            return fs.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []


def remove_tree(url: str) -> None:
    """Remove a folder and everything in it, if it exists.

    Raises:
        UserError: the folder cannot be removed.
    """
    fs, path = filesystem(url)
    fs.invalidate_cache()
    with _user_errors(url, _NO_REMOVAL), suppress(FileNotFoundError):  # another process may remove it in between
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
    with _user_errors(probe, _NO_REMOVAL):
        fs.rm_file(path)
