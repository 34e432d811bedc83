r"""Paths as lists of images give them, as paths below a folder.

Tables and lists come from other machines: with absolute paths, URLs, `./`, the folder's own name before each path,
or Windows' backslashes.
"""

import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

from fsspec.implementations.local import LocalFileSystem

from dpt_ray.data.shards.keys import normalise_name
from dpt_ray.data.storage import stores

_DRIVE = re.compile(r"[A-Za-z]:(?=[/\\])")


class ListedPaths:
    """What a listed path may be called below one folder.

    Args:
        location: URL of the folder; None if it has none.
        names: paths of the files below it, or their keys.
    """

    def __init__(self, location: str | None, names: Iterable[str]):
        self._places = [plain_path(place).rstrip("/") + "/" for place in _places(location)]
        self._own_names = [part for part in self._places[0].split("/") if part] if self._places else []
        self._folders = {normalise_name(name.partition("/")[0]) for name in names if "/" in name}

    def below(self, text: str) -> Iterator[str]:
        """Yield the paths below the folder that a listed path may stand for, the most literal first.

        After the text itself come: the path in plain form; without the folder's own place before it; and without the
        last parts of that place (`train/cat/1.png` or `data/train/cat/1.png` below `/data/train`), unless the folder
        holds one of that name.
        """
        yield text
        path = plain_path(text)
        yield path
        for place in self._places:
            if path.startswith(place):
                yield path.removeprefix(place)
        parts = path.split("/")
        if parts[0] in self._folders:
            return
        for length in range(1, min(len(parts), len(self._own_names) + 1)):
            if parts[:length] == self._own_names[-length:]:
                yield "/".join(parts[length:])


def _places(location: str | None) -> list[str]:
    """Return the ways to name a folder: its URL and, of a local one, the path that links lead to."""
    if location is None:
        return []
    filesystem, path = stores.filesystem(location)
    return [location] + ([os.path.realpath(path)] if isinstance(filesystem, LocalFileSystem) else [])


def plain_path(text: str) -> str:
    """Return a path or URL with single slashes forward, without `.`, `..`, a drive letter or the scheme `file`."""
    text = text.strip()
    if text.lower().startswith("file://"):
        text = unquote(re.sub(r"(?i)^file://(localhost)?", "", text))
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = "", text
    rest = _DRIVE.sub("", rest.replace("\\", "/"), count=1)
    if rest:
        rest = re.sub("^//+", "/", posixpath.normpath(rest))
    return normalise_name(scheme + mark + rest)
