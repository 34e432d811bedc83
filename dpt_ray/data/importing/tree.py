"""List folders of data. On a local disk, links are followed."""

import os
from collections.abc import Iterable, Iterator

from fsspec.implementations.local import LocalFileSystem

from dpt_ray.data.importing.litter import outermost_passed_over, why_folder_passed_over
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

FileEntry = stores.StoredFile

BROKEN = "is a link to a file that does not exist"


def list_tree(url: str) -> list[FileEntry]:
    """Return all files below a folder, at any depth, sorted by name. The name is the path below the folder.

    A folder without data (`why_folder_passed_over`) is a single entry, and its files are left out.

    Raises:
        UserError: a folder cannot be listed.
    """
    filesystem, path = stores.filesystem(url)
    if not isinstance(filesystem, LocalFileSystem):
        return _without_litter(url, stores.list_tree(url))
    return sorted(_walk(path, url, "", ()) if os.path.isdir(path) else (), key=lambda entry: entry["name"])


def list_files(url: str) -> list[FileEntry]:
    """Return the files directly in a folder, sorted by name; empty if the folder does not exist.

    Raises:
        UserError: the folder cannot be listed.
    """
    filesystem, path = stores.filesystem(url)
    if not isinstance(filesystem, LocalFileSystem):
        return stores.list_files(url)
    entries = _scan(path, url) if os.path.isdir(path) else []
    files = [_file(entry, entry.name, stores.join(url, entry.name)) for entry in entries if not entry.is_dir()]
    return sorted(files, key=lambda entry: entry["name"])


def list_folders(url: str) -> list[str]:
    """Return the names of the folders directly in a folder, sorted; empty if the folder does not exist.

    Raises:
        UserError: the folder cannot be listed.
    """
    filesystem, path = stores.filesystem(url)
    if not isinstance(filesystem, LocalFileSystem):
        return stores.list_folders(url)
    return sorted(entry.name for entry in _scan(path, url) if entry.is_dir()) if os.path.isdir(path) else []


def _without_litter(url: str, entries: Iterable[FileEntry]) -> list[FileEntry]:
    kept: dict[str, FileEntry] = {}
    for entry in entries:
        if entry["name"].endswith("/"):  # an empty object by which some tools represent a folder
            continue
        folder = outermost_passed_over(entry["name"])
        kept.setdefault(folder or entry["name"], _folder(folder, url) if folder else entry)
    return list(kept.values())


def _walk(path: str, url: str, prefix: str, above: tuple[str, ...]) -> Iterator[FileEntry]:
    """Yield the files of a folder. `above` holds the real paths of the folders on the way to it."""
    above = (*above, os.path.realpath(path))
    for entry in _scan(path, stores.join(url, prefix) if prefix else url):
        name = prefix + entry.name
        if not entry.is_dir():
            yield _file(entry, name, stores.join(url, name))
        elif why_folder_passed_over(entry.name):
            yield _folder(f"{name}/", url)
        elif not (entry.is_symlink() and os.path.realpath(entry.path) in above):  # a cycle of links
            yield from _walk(entry.path, url, f"{name}/", above)


def _folder(name: str, url: str) -> FileEntry:
    return {"name": name, "url": stores.join(url, name), "size": None, "changed": ""}


def _file(entry: os.DirEntry[str], name: str, url: str) -> FileEntry:
    try:
        status = entry.stat()
    except OSError:
        return {"name": name, "url": url, "size": None, "changed": "", "broken": True}
    found: FileEntry = {"name": name, "url": url, "size": status.st_size, "changed": str(status.st_mtime)}
    special = stores.special_file(status.st_mode)
    if special:
        found["special"] = special
    return found


def _scan(path: str, url: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(f"cannot be listed ({error.strerror})", where=url) from error
