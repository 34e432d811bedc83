"""Listings of folders at any URL, never from a cache."""

import datetime
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from dpt_ray.data.storage.filesystems import filesystem, join, user_errors
from dpt_ray.errors import UserError


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
    with user_errors(url, "cannot be listed"):
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


def _changed(entry: Mapping[str, Any]) -> str:
    """Return a text that changes with the content of a listed file: its ETag or its time of change."""
    return str(entry.get("ETag") or entry.get("mtime") or entry.get("LastModified") or "")


def changed_at(url: str) -> datetime.datetime | None:
    """Return when a file was written last, UTC; None if the store does not say it.

    Raises:
        UserError: the file does not exist or cannot be looked up.
    """
    fs, path = filesystem(url)
    with user_errors(url, "cannot be looked up"):
        entry = fs.info(path)
    moment = entry.get("LastModified") or entry.get("mtime") or entry.get("created")
    if isinstance(moment, int | float):
        return datetime.datetime.fromtimestamp(moment, datetime.UTC)
    return moment.astimezone(datetime.UTC) if isinstance(moment, datetime.datetime) else None


def _entries(url: str) -> list[dict[str, Any]]:
    fs, path = filesystem(url)
    fs.invalidate_cache()
    with user_errors(url, "cannot be listed"):
        try:
            return fs.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
