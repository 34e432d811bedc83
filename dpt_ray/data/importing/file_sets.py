"""Find the shards or Parquet files that a location names, and list the other files that are ignored."""

import fnmatch
import glob
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dpt_ray.data.importing.import_plan import Ignored
from dpt_ray.data.importing.litter import why_folder_passed_over, why_passed_over
from dpt_ray.data.importing.split_names import Splits, read_split_name, splits_of_files
from dpt_ray.data.importing.tree import BROKEN, FileEntry, list_files, list_folders
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.text import printable

_MAX_FOLDERS = 50
_MAX_DEPTH = 4
"""Maximum number and depth of the folders below a location that are searched for files that are left out."""
_NOT_SEARCHED = "a folder that was not looked into"
_MAX_NAMES = 4
"""Maximum number of names or choices in a message."""


@dataclass(frozen=True)
class FileKind:
    """A kind of file that holds many images.

    Attributes:
        ending: end of the file names, in lower case.
        noun: plural noun for messages.
    """

    ending: str
    noun: str

    def has_name(self, name: str) -> bool:
        """Whether a file name is that of a file of this kind."""
        return name.lower().endswith(self.ending) and not why_passed_over(name)


ARCHIVE_ENDINGS = (
    ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".tar.lz4", ".tar.lzma",
    ".tar.z", ".zip", ".7z", ".rar", ".gz", ".bz2", ".xz", ".zst",
)  # fmt: skip
"""Ends of the names of archives and compressed files that are not read, in lower case."""

SHARDS = FileKind(".tar", "shards")
PARQUET = FileKind(".parquet", "Parquet files")


class FoundFiles(NamedTuple):
    """The files that a location names.

    Attributes:
        folder: URL of the folder of the files.
        files: the files, sorted by name.
        ignored: other files beside and below them; empty if the location is a file or a pattern.
    """

    folder: str
    files: list[FileEntry]
    ignored: tuple[Ignored, ...]


def is_pattern(name: str) -> bool:
    """Whether the last part of a location is a pattern, such as `train-*.tar`."""
    return "*" in name or ("[" in name and "]" in name)


def split_location(location: str) -> tuple[str, str]:
    """Return the parent folder of a location and its last part; the last part of a bucket or root is empty."""
    folder, slash, last = location.rstrip("/").rpartition("/")
    if not slash or folder.endswith(":/"):  # a bucket, or the root
        return location, ""
    return folder or "/", last


def match_files(location: str) -> list[FileEntry]:
    """Return the files that a location names: one file, or those that match the pattern in its last part."""
    folder, last = split_location(location)
    return [
        file
        for file in (list_files(folder) if last else ())
        if file["name"] == last
        or (is_pattern(last) and fnmatch.fnmatchcase(file["name"], last) and not why_passed_over(file["name"]))
    ]


def find_files(location: str, kind: FileKind) -> FoundFiles:
    """Return the files of a kind that a location names: one file, a folder, or a pattern such as `train-*.tar`.

    Raises:
        UserError: there is no such file, the files are of several splits, or one cannot be opened.
    """
    location = location.rstrip("/")
    folder, last = split_location(location)
    named = match_files(location) if is_pattern(last) or kind.has_name(last) else []
    if named:
        chosen = read_split_name(last)
        found = FoundFiles(folder, [file for file in named if kind.has_name(file["name"])], ())
        if not found.files:
            raise UserError(f"matches no {kind.noun} (*{kind.ending})", where=location)
        _check_files(found.files, kind, folder, set(chosen.split.split("+")) if chosen else set())
        return found
    files = list_files(location)
    found = FoundFiles(location, [file for file in files if kind.has_name(file["name"])], ())
    if not found.files:
        _refuse_absent(location, files, kind)
    _check_files(found.files, kind, location, set())
    return found._replace(ignored=(*_beside(files, kind), *_below(location, kind)))


def _refuse_absent(location: str, files: Sequence[FileEntry], kind: FileKind) -> None:
    _, last = split_location(location)
    if "{" in last and "}" in last:
        raise UserError(
            "has a pattern in braces, which is not read", where=location, fix="write * instead of the braces"
        )
    if special := stores.special_url(location):
        raise UserError(f"is {special}", where=location)
    if not files and not stores.exists(location):
        what = "matches no file" if is_pattern(last) else "does not exist"
        raise UserError(what, where=location, fix=_fix(kind))
    below = [entry.name for entry in _below(location, kind) if kind.has_name(entry.name)]
    if below:
        folders = sorted({printable(stores.join(location, name.rpartition("/")[0])) for name in below})
        raise UserError(
            f"holds no {kind.noun} itself, but {len(below):,} in folders below ({name_some(below)})",
            where=location,
            fix=f"name one of the folders: {' or '.join(folders[:_MAX_NAMES])}",
        )
    archives = [file["name"] for file in files if file["name"].lower().endswith(ARCHIVE_ENDINGS)]
    if archives:
        raise UserError(
            f"holds no {kind.noun} (*{kind.ending}) but archives that are not read ({name_some(archives)})",
            where=location,
            fix=f"decompress them to *{kind.ending}" if kind == SHARDS else "unpack them",
        )
    raise UserError(f"holds no {kind.noun} (*{kind.ending})", where=location, fix=_fix(kind))


def _fix(kind: FileKind) -> str:
    if kind == SHARDS:
        return "give a folder that holds WebDataset shards (*.tar), one shard, or a pattern such as train-*.tar"
    return "give a Parquet file, or a folder of them"


def _check_files(files: Sequence[FileEntry], kind: FileKind, folder: str, chosen: set[str]) -> None:
    """Refuse files that cannot be opened, and files of several splits.

    Args:
        files: the files that a location names.
        kind: their kind.
        folder: URL of their folder.
        chosen: the splits that the location itself names. Files of these splits are accepted, even if their names also
            name other splits.
    """
    for file in files:
        if file.get("broken"):
            raise UserError(BROKEN, where=printable(file["url"]))
        if "special" in file:
            raise UserError(f"is {file['special']}", where=printable(file["url"]), fix="move it elsewhere")
    splits = splits_of_files([file["name"] for file in files])
    if not splits or (chosen and all(chosen <= set(split.split("+")) for split in splits)):
        return
    raise UserError(
        f"holds {kind.noun} of several splits ({', '.join(split_words(splits))})",
        where=folder,
        fix=f"name one of them: {' or '.join(choices(folder, splits))}",
    )


def split_words(splits: Splits) -> list[str]:
    """Return the word for each split as the file names spell it."""
    words = [read.word for names in splits.values() if (read := read_split_name(names[0]))]
    return sorted(words) if len(set(words)) == len(words) else sorted(splits)


def choices(folder: str, splits: Splits) -> list[str]:
    """Return a URL for each split that names its files and no others; advice if there are no such URLs."""
    found = []
    for names in splits.values():
        others = [name for split in splits.values() for name in split if name not in names]
        if pattern := _pattern(names, others):
            found.append(printable(stores.join(folder, pattern)))
    found = sorted(found)[:_MAX_NAMES]
    return found if len(found) > 1 else ["move the files of each split into a folder of its own"]


def _pattern(names: Sequence[str], others: Sequence[str]) -> str | None:
    """Return a pattern that all `names` and none of `others` match; None if none is found."""
    read = read_split_name(names[0])
    start = _common_start(names)
    end = _common_start([name[::-1] for name in names])[::-1]
    end = end[end.rfind(".") :] if "." in end else ""
    candidates = [names[0]] if len(names) == 1 else []
    if start:
        candidates.append(f"{glob.escape(start)}*{end}")
    place = names[0].lower().find(read.word) if read else -1
    if read and place >= 0:
        stop = place + len(read.word)
        cut = stop + (names[0][stop : stop + 1] in ("-", "_", " ", ".") and names[0][stop:] != end)
        if names[0][stop:] != end:  # a counter may follow, which the pattern must not fix
            candidates.insert(0, f"{glob.escape(names[0][:cut])}*{end}")
        candidates.append(f"*{names[0][place:stop]}*{end}")
    for pattern in candidates:
        matches = [name for name in (*names, *others) if name == pattern or fnmatch.fnmatchcase(name, pattern)]
        if matches == list(names):
            return pattern
    return None


def _common_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    return first[: next((place for place, letter in enumerate(first) if last[place : place + 1] != letter), None)]


def _beside(files: Sequence[FileEntry], kind: FileKind) -> list[Ignored]:
    return [
        Ignored(printable(file["name"]), _why_not(file, kind), why_passed_over(file["name"]) is not None)
        for file in files
        if not kind.has_name(file["name"])
    ]


def _why_not(file: FileEntry, kind: FileKind) -> str:
    """Return why a file is not one of those that a location names."""
    name = file["name"].lower()
    if reason := why_passed_over(file["name"]):
        return reason
    if file.get("broken"):
        return BROKEN
    if "special" in file:
        return f"is {file['special']}"
    if name.endswith(ARCHIVE_ENDINGS):
        packed = kind != SHARDS or name.endswith((".zip", ".7z", ".rar"))
        remedy = "unpack it" if packed else f"decompress it to *{kind.ending}"
        return f"an archive that is not read; {remedy} to have its images"
    other = PARQUET if kind == SHARDS else SHARDS
    if other.has_name(file["name"]):
        return f"one of the {other.noun} beside the {kind.noun}; give them a location of their own"
    return f"not one of the {kind.noun} by its name (*{kind.ending})"


def _below(location: str, kind: FileKind) -> list[Ignored]:
    """List files in folders below a location, which are left out."""
    ignored = []
    waiting, searched = deque(f"{name}/" for name in list_folders(location)), 0
    while waiting and searched < _MAX_FOLDERS:
        folder, searched = waiting.popleft(), searched + 1
        reason = why_folder_passed_over(folder.split("/")[-2])
        if folder.count("/") > _MAX_DEPTH:
            reason = _NOT_SEARCHED
        if reason:
            ignored.append(Ignored(printable(folder), reason, reason != _NOT_SEARCHED))
            continue
        inner, found = _list_folder(location, folder, kind)
        ignored += found
        if not found and not inner:
            ignored.append(Ignored(printable(folder), f"a folder without {kind.noun}", document=True))
        waiting += inner
    return ignored + [Ignored(printable(folder), _NOT_SEARCHED) for folder in waiting]


def _list_folder(location: str, folder: str, kind: FileKind) -> tuple[list[str], list[Ignored]]:
    """Return the subfolders of a folder below a location, and its files that probably hold images."""
    url = stores.join(location, folder.rstrip("/"))
    why = f"lies in a folder below; to have it read, give {printable(url)} as the location, or move it up"
    found = []
    for file in list_files(url):
        if kind.has_name(file["name"]):
            found.append(Ignored(printable(folder + file["name"]), why))
        elif file["name"].lower().endswith(ARCHIVE_ENDINGS) and not why_passed_over(file["name"]):
            found.append(Ignored(printable(folder + file["name"]), _why_not(file, kind)))
    return [f"{folder}{name}/" for name in list_folders(url)], found


def name_some(names: Sequence[str]) -> str:
    """Return the first names, and the number of the others, for a message."""
    named = ", ".join(printable(name) for name in names[:_MAX_NAMES])
    return named + (f" and {len(names) - _MAX_NAMES:,} more" if len(names) > _MAX_NAMES else "")


def list_shards(url: str) -> list[FileEntry]:
    """List the shards (`*.tar`) that a URL names: a folder, one file, or a pattern.

    Raises:
        UserError: the folder does not exist or holds no shard, or the shards are of several splits.
    """
    return find_files(url, SHARDS).files
