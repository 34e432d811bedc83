"""Find one cause why no path of a list names a file below a folder, instead of an error for each path."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from dpt_ray.data.shards.listed_paths import plain_path
from dpt_ray.data.storage import stores

_MAX_TRIED = 1000
"""Maximum number of paths of the list that are examined."""


class Misplaced(NamedTuple):
    """The common mistake in the paths of a list, and its fix."""

    what: str
    fix: str


def why_none_fits(listed: Sequence[str], files: Collection[str], location: str) -> Misplaced | None:
    """Return the mistake because of which no listed path names a file; None if the files are just absent.

    Args:
        listed: the paths as they are written.
        files: the paths below the folder.
        location: URL of the folder.
    """
    tried = [(text, plain_path(text)) for text in listed[:_MAX_TRIED]]
    return (
        _too_long(tried, files, location)
        or _too_short(tried, files, location)
        or _spelled_otherwise(tried, files)
        or _elsewhere(tried, location)
    )


def _too_long(tried: Iterable[tuple[str, str]], files: Collection[str], location: str) -> Misplaced | None:
    """Find paths with leading folders that do not exist below the folder."""
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
    """Find paths that lack their leading folders."""
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
    """Find paths with a missing or wrong extension, or in another case."""
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
                f"names files such as {text!r}; the file is called {name!r}",
                "write the names with the same upper and lower case",
            )
        if name := without_extension.get(path.rpartition(".")[0]):
            return Misplaced(
                f"names files such as {text!r}; the file is called {name!r}", "write the extension of the files"
            )
    return None


def _elsewhere(tried: Iterable[tuple[str, str]], location: str) -> Misplaced | None:
    """Find absolute paths, URLs and paths that leave the folder."""
    for text, path in tried:
        if path.startswith(("/", "../")) or "://" in path:
            return Misplaced(
                f"names files such as {text!r}, which is not below {location}",
                "write paths that are relative to that folder",
            )
    return None
