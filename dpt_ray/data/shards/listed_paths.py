r"""Resolves paths in lists of images to paths below a folder.

Tables and lists may come from other machines, with absolute paths, URLs, `./`, the folder's own name before each path,
or the backslashes of Windows.
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
    """Resolves listed paths to paths below one folder.

    Args:
        location: URL of the folder; None if it has none.
        names: paths of the files below the folder, or their keys. Only the first folder of each matters, and only if it
            is one of `own_names`.

    Attributes:
        own_names: names of the folder and of those above it.
    """

    def __init__(self, location: str | None, names: Iterable[str]):
        self._places = [plain_path(place).rstrip("/") + "/" for place in _places(location)]
        self.own_names = [part for part in self._places[0].split("/") if part] if self._places else []
        self._folders = {normalise_name(name.partition("/")[0]) for name in names if "/" in name}

    def below(self, text: str) -> Iterator[str]:
        """Yield the paths below the folder that a listed path may mean, the most literal first.

        These are the text itself, the path in plain form, the path without the folder's place before it, and the path
        without the last parts of that place (`train/cat/1.png` or `data/train/cat/1.png` below `/data/train`). The last
        form is left out if the folder contains a folder of the same name.
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
        for length in range(1, min(len(parts), len(self.own_names) + 1)):
            if parts[:length] == self.own_names[-length:]:
                yield "/".join(parts[length:])


def _places(location: str | None) -> list[str]:
    """Return the names of a folder: its URL and, for a local folder, the path with links resolved."""
    if location is None:
        return []
    filesystem, path = stores.filesystem(location)
    return [location] + ([os.path.realpath(path)] if isinstance(filesystem, LocalFileSystem) else [])


def plain_path(text: str) -> str:
    """Return a path or URL with single forward slashes, without `.`, `..`, a drive letter or the scheme `file`."""
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
