"""Why no path of a list is that of a file below a folder: one cause and its remedy, instead of a complaint a path."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from dpt_ray.data.shards.listed_paths import plain_path
from dpt_ray.data.storage import stores

_TRIED = 1000
"""Paths of the list that are looked at."""


class Misplaced(NamedTuple):
    """What is wrong with the paths of a list, and what to do."""

    what: str
    fix: str


def why_none_fits(listed: Sequence[str], files: Collection[str], location: str) -> Misplaced | None:
    """Return what explains that none of the listed paths is a file; None if nothing does but that they are absent.

    Args:
        listed: the paths, as they are written.
        files: the paths below the folder.
        location: URL of the folder.
    """
    tried = [(text, plain_path(text)) for text in listed[:_TRIED]]
    return (
        _too_long(tried, files, location)
        or _too_short(tried, files, location)
        or _spelled_otherwise(tried, files)
        or _elsewhere(tried, location)
    )


def _too_long(tried: Iterable[tuple[str, str]], files: Collection[str], location: str) -> Misplaced | None:
    """Look for paths that begin with something that the folder does not hold."""
    for text, path in tried:
        parts = path.split("/")
        for length in range(1, len(parts)):
            rest = "/".join(parts[length:])
            if rest in files:
                prefix = text[: -len(rest)] if text.replace("\\", "/").endswith(rest) else path.removesuffix(rest)
                return Misplaced(
                    f"names files such as {text!r}, which is not below {location}; {rest!r} is",
                    f"write paths that are relative to that folder, without {prefix!r}",
                )
    return None


def _too_short(tried: Iterable[tuple[str, str]], files: Collection[str], location: str) -> Misplaced | None:
    """Look for paths that lack the folders before them."""
    by_last: dict[str, list[str]] = {}
    for name in files:
        by_last.setdefault(name.rpartition("/")[2], []).append(name)
    for text, path in tried:
        for name in by_last.get(path.rpartition("/")[2], ()):
            if name.endswith("/" + path):
                folder = name.removesuffix("/" + path)
                return Misplaced(
                    f"names files such as {text!r}, which is not in {location}; {name!r} is",
                    f"write whole paths below that folder, or give {stores.join(location, folder)} as the folder",
                )
    return None


def _spelled_otherwise(tried: Iterable[tuple[str, str]], files: Collection[str]) -> Misplaced | None:
    """Look for paths without the file's extension, with another one, or in another case."""
    without_extension = {name.rpartition(".")[0]: name for name in files}
    folded = {name.casefold(): name for name in files}
    for text, path in tried:
        if name := without_extension.get(path):
            return Misplaced(
                f"names files without their extension, such as {text!r}; the file is called {name!r}",
                "write the names with their extension",
            )
        if name := folded.get(path.casefold()):
            return Misplaced(
                f"names files such as {text!r}; the file is called {name!r}", "write capital and small letters alike"
            )
        if name := without_extension.get(path.rpartition(".")[0]):
            return Misplaced(
                f"names files such as {text!r}; the file is called {name!r}", "write the extension of the files"
            )
    return None


def _elsewhere(tried: Iterable[tuple[str, str]], location: str) -> Misplaced | None:
    """Look for paths that lie outside the folder whatever is in it."""
    for text, path in tried:
        if path.startswith(("/", "../")) or "://" in path:
            return Misplaced(
                f"names files such as {text!r}, which is not below {location}",
                "write paths that are relative to that folder",
            )
    return None
