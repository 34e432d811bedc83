"""Folders as people keep images in them: on a local disk, links to files and folders count as what they lead to."""

import os
from collections.abc import Iterator
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from dpt_ray.data import stores
from dpt_ray.errors import UserError

FileEntry = dict[str, Any]
"""A file as `stores.list_tree` tells it; `broken` is true for a link that leads nowhere."""


def list_tree(url: str) -> list[FileEntry]:
    """Return all files below a folder, in any depth, sorted by name, which is the path below it.

    Raises:
        UserError: a folder may not be listed.
    """
    filesystem, path = stores.filesystem(url)
    if not isinstance(filesystem, LocalFileSystem):
        return stores.list_tree(url)
    return sorted(_walk(path, url, "", ()) if os.path.isdir(path) else (), key=lambda entry: entry["name"])


def list_folders(url: str) -> list[str]:
    """Return the names of the folders directly in a folder, sorted; none if it is absent.

    Raises:
        UserError: the folder may not be listed.
    """
    filesystem, path = stores.filesystem(url)
    if not isinstance(filesystem, LocalFileSystem):
        return stores.list_folders(url)
    return sorted(entry.name for entry in _scan(path, url) if entry.is_dir()) if os.path.isdir(path) else []


def _walk(path: str, url: str, prefix: str, above: tuple[str, ...]) -> Iterator[FileEntry]:
    """Yield the files of a folder; `above` are the real places of the folders that led here."""
    above = (*above, os.path.realpath(path))
    for entry in _scan(path, stores.join(url, prefix) if prefix else url):
        name = prefix + entry.name
        if not entry.is_dir():
            yield _file(entry, name, stores.join(url, name))
        elif not (entry.is_symlink() and os.path.realpath(entry.path) in above):  # else it leads back up for ever
            yield from _walk(entry.path, url, f"{name}/", above)


def _file(entry: os.DirEntry, name: str, url: str) -> FileEntry:
    try:
        status = entry.stat()
    except OSError:
        return {"name": name, "url": url, "size": None, "changed": "", "broken": True}
    return {"name": name, "url": url, "size": status.st_size, "changed": str(status.st_mtime)}


def _scan(path: str, url: str) -> list[os.DirEntry]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(f"cannot be listed ({error.strerror})", where=url) from error
