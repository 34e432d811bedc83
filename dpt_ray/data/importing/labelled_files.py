"""Image files with their keys and labels, and the recipes of the shards that are made from them."""

from abc import abstractmethod
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple, SupportsIndex, overload

import numpy as np

from dpt_ray.core.seeds import derive_seed
from dpt_ray.data.importing.file_entries import FileEntries
from dpt_ray.data.importing.import_plan import Recipe
from dpt_ray.data.shards.keys import clashing_key, file_key

_UNLABELLED = -1


class LabelledFile(NamedTuple):
    """An image file.

    Attributes:
        name: its path below the folder.
        size: bytes; None if the store does not report it.
        key: its key in the shards.
        label: class id; None if it is unlabelled.
    """

    name: str
    size: int | None
    key: str
    label: int | None


class FileList(Sequence[LabelledFile]):
    """Image files with their keys and labels."""

    @abstractmethod
    def all_keys(self) -> Iterator[str]:
        """Yield the keys of all files."""

    @abstractmethod
    def counts(self) -> Counter[int]:
        """Return the number of files of each class id."""


class LabelledFiles(FileList):
    """Image files in some 60 bytes each. Keys follow from names, and are not kept.

    Attributes:
        stored: the same files in a stored listing, which pickle in place of these; None without one.

    Args:
        entries: the files.
        labels: the class id of each; None for one without a label.
    """

    def __init__(self, entries: FileEntries, labels: Iterable[int | None]):
        self._entries = entries.without_marks()
        self._labels = array("i", (_UNLABELLED if label is None else label for label in labels))
        if len(self._labels) != len(entries):
            raise ValueError(f"{len(entries)} files have {len(self._labels)} labels")
        self._clashes = _clashes(self._entries)
        self.stored: FileList | None = None

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return super().__reduce_ex__(protocol) if self.stored is None else self.stored.__reduce_ex__(protocol)

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, place: int) -> LabelledFile: ...
    @overload
    def __getitem__(self, place: slice) -> list[LabelledFile]: ...
    def __getitem__(self, place: int | slice) -> LabelledFile | list[LabelledFile]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        name, label = self._entries.name(place), self._labels[place]
        return LabelledFile(name, self._entries.length(place), self._key(place, name), _label(label))

    def all_keys(self) -> Iterator[str]:
        """Yield the keys of all files."""
        return (self._key(place, name) for place, name in enumerate(self._entries.names()))

    def counts(self) -> Counter[int]:
        """Return the number of files of each class id."""
        return Counter(label for label in self._labels if label != _UNLABELLED)

    def _key(self, place: int, name: str) -> str:
        return clashing_key(name) if place in self._clashes else file_key(name)


def _label(label: int) -> int | None:
    return None if label == _UNLABELLED else label


def _clashes(entries: FileEntries) -> set[int]:
    """Return the places of files whose keys another one would have, since they differ only in the extension."""
    hashes = np.fromiter((hash(file_key(name)) for name in entries.names()), np.int64, len(entries))
    ordered = np.sort(hashes)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    places = np.flatnonzero(np.isin(hashes, repeated)).tolist() if len(repeated) else []
    uses = Counter(file_key(entries.name(place)) for place in places)
    return {place for place in places if uses[file_key(entries.name(place))] > 1}


class FileRecipes(Sequence[Recipe]):
    """The recipes of files in a pseudorandom order that depends only on their keys, made when they are looked at.

    Args:
        files: the files.
        images_per_shard: files of a recipe; the last may have fewer.
    """

    def __init__(self, files: FileList, images_per_shard: int):
        self._files, self._size = files, images_per_shard
        self._order = _mixed(files)

    def __len__(self) -> int:
        return -(-len(self._files) // self._size)

    @overload
    def __getitem__(self, number: int) -> Recipe: ...
    @overload
    def __getitem__(self, number: slice) -> list[Recipe]: ...
    def __getitem__(self, number: int | slice) -> Recipe | list[Recipe]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        start = number % len(self) * self._size
        chosen = self._order[start : start + self._size].tolist()
        return {"images": len(chosen), "files": [list(self._files[place]) for place in chosen]}


def _mixed(files: FileList) -> np.ndarray:
    """Return the places of files by the hashes of their keys, and by the keys where two hashes are equal."""
    seeds = np.fromiter((derive_seed("shard order", key) for key in files.all_keys()), np.int64, len(files))
    order = np.argsort(seeds, kind="stable")
    ties = np.flatnonzero(np.diff(seeds[order]) == 0)
    for _, run in groupby(enumerate(ties.tolist()), key=lambda pair: pair[1] - pair[0]):
        tied = [place for _, place in run]  # each place has the same hash as the next one
        first, stop = tied[0], tied[-1] + 2
        order[first:stop] = sorted(order[first:stop].tolist(), key=lambda place: files[place].key)
    return order
