"""List folders of data. On a local disk, links are followed."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from operator import itemgetter

from fsspec.implementations.local import LocalFileSystem

from dpt_ray.data.importing.file_entries import FileEntries
from dpt_ray.data.importing.litter import outermost_passed_over, why_folder_passed_over
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

FileEntry = stores.StoredFile

BROKEN = "is a link to a file that does not exist"


def list_tree(url: str) -> FileEntries:
    """Return all files below a folder, at any depth, sorted by name. The name is the path below the folder.

    A folder without data (`why_folder_passed_over`) is a single entry, and its files are left out.

    Raises:
        UserError: a folder cannot be listed.
    """
    filesystem, path = stores.filesystem(url)
    found = FileEntries(url)
    if not isinstance(filesystem, LocalFileSystem):
        entries: Iterable[FileEntry] = _without_litter(url, _list_remote(url))
    else:
        entries = _walk(path, url, "", ()) if os.path.isdir(path) else ()
    for entry in entries:
        found.append(entry)
    return found


def _list_remote(url: str) -> Iterator[FileEntry]:
    """Yield all files below a folder of a store, sorted by name; some of its folders are in memory at a time."""
    files, folders = stores.list_files(url), stores.list_folders(url)
    if {file["name"] for file in files} & set(folders):  # some stores then list the object in place of the folder
        yield from stores.list_tree(url)
        return
    above: dict[str, FileEntry | None] = {file["name"]: file for file in files}
    above.update({f"{name}/": None for name in folders})
    places = sorted(above.items(), key=itemgetter(0))
    with ThreadPoolExecutor(LISTED_AT_ONCE) as pool:
        for start in range(0, len(places), LISTED_AT_ONCE):
            yield from chain.from_iterable(pool.map(partial(_list_below, url), places[start : start + LISTED_AT_ONCE]))


def _list_below(url: str, place: tuple[str, FileEntry | None]) -> list[FileEntry]:
    """Return a file, or the files below a folder, directly in a folder of a store."""
    name, file = place
    if file is not None:
        return [file]
    if why_folder_passed_over(name.rstrip("/")):
        return [_folder(name, url)]
    return [{**entry, "name": name + entry["name"]} for entry in stores.list_tree(stores.join(url, name.rstrip("/")))]


LISTED_AT_ONCE = 16
"""Folders of a store that are listed at the same time, which hides the latency of small ones."""


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


def _without_litter(url: str, entries: Iterable[FileEntry]) -> Iterator[FileEntry]:
    seen: set[str] = set()
    for entry in entries:
        name = entry["name"]
        if name.endswith("/") and entry["size"] is not None:  # an empty object by which some tools represent a folder
            continue
        folder = name if name.endswith("/") else outermost_passed_over(name)
        if folder is None:
            yield entry
        elif folder not in seen:
            seen.add(folder)
            yield _folder(folder, url)


def _walk(path: str, url: str, prefix: str, above: tuple[str, ...]) -> Iterator[FileEntry]:
    """Yield the files below a folder, sorted by name. `above` holds the real paths of the folders on the way to it."""
    above = (*above, os.path.realpath(path))
    entries = _scan(path, stores.join(url, prefix) if prefix else url)
    # The names below a folder begin with its name and a slash, by which they come before or after a name beside it.
    for entry in sorted(entries, key=lambda entry: f"{entry.name}/" if entry.is_dir() else entry.name):
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
