"""Many files in little memory: the names, lengths and change marks of a listing, in columns.

A listing of a hundred million files as dictionaries would take 100 GB. Here a file takes its name and 24 bytes.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import overload

from dpt_ray.data.storage import stores
from dpt_ray.data.storage.stores import StoredFile

UNKNOWN = -1
"""Length of a file of which the store does not report it."""


class Texts:
    """Texts one after another, in one buffer; any string is kept as it is."""

    def __init__(self) -> None:
        self._buffer, self._ends = bytearray(), array("Q")

    def append(self, text: str) -> None:
        """Add a text."""
        self._buffer += text.encode(errors="surrogatepass")
        self._ends.append(len(self._buffer))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> str:
        start = self._ends[row - 1] if row else 0
        return self._buffer[start : self._ends[row]].decode(errors="surrogatepass")


class Marks:
    """Change marks of files: times, which are kept as numbers, or any texts."""

    def __init__(self) -> None:
        self._numbers, self._texts = array("d"), Texts()

    def append(self, mark: str) -> None:
        """Add a mark."""
        if not len(self._texts) and (number := _as_number(mark)) is not None:
            self._numbers.append(number)
            return
        if self._numbers:
            for number in self._numbers:
                self._texts.append(str(number))
            self._numbers = array("d")
        self._texts.append(mark)

    def __getitem__(self, row: int) -> str:
        return self._texts[row] if len(self._texts) else str(self._numbers[row])


def _as_number(mark: str) -> float | None:
    """Return the number that a mark is the text of; None if it is another text."""
    try:
        number = float(mark)
    except ValueError:
        return None
    return number if str(number) == mark else None


class FileEntries(Sequence[StoredFile]):
    """Files of a listing. An entry becomes a dictionary when it is looked at.

    Args:
        url: URL of the listed folder, below which the names are paths.
    """

    def __init__(self, url: str):
        self._url = url
        self._names, self._lengths = Texts(), array("q")
        self._marks: Marks | None = Marks()
        self._unusual: dict[int, StoredFile] = {}
        """Links without a target and special files, which are few."""
        self._rows: array[int] | None = None
        """The rows of the columns that this object has; None for all of them."""

    def append(self, entry: StoredFile) -> None:
        """Add a file to a listing that is no part of another one."""
        assert self._rows is None
        assert self._marks is not None
        if "broken" in entry or "special" in entry:
            self._unusual[len(self._names)] = entry
        self._names.append(entry["name"])
        self._lengths.append(UNKNOWN if entry["size"] is None else entry["size"])
        self._marks.append(entry["changed"])

    def __len__(self) -> int:
        return len(self._names) if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, place: int) -> StoredFile: ...
    @overload
    def __getitem__(self, place: slice) -> list[StoredFile]: ...
    def __getitem__(self, place: int | slice) -> StoredFile | list[StoredFile]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        row = self._row(place)
        if row in self._unusual:
            return self._unusual[row]
        name, mark = self._names[row], "" if self._marks is None else self._marks[row]
        return {"name": name, "url": stores.join(self._url, name), "size": self._length(row), "changed": mark}

    def name(self, place: int) -> str:
        """Return the name of a file."""
        return self._names[self._row(place)]

    def length(self, place: int) -> int | None:
        """Return the length of a file in bytes; None if the store does not report it."""
        return self._length(self._row(place))

    def names(self) -> Iterator[str]:
        """Yield the names of all files."""
        return map(self.name, range(len(self)))

    def at(self, places: Iterable[int]) -> "FileEntries":
        """Return some of the files, which share the memory of this listing."""
        rows = array("Q", (self._row(place) for place in places))
        if len(rows) == len(self):
            return self
        part = self._copy()
        part._rows = rows
        return part

    def named(self, is_wanted: Callable[[str], bool]) -> "FileEntries":
        """Return the files with the wanted names."""
        return self.at(place for place, name in enumerate(self.names()) if is_wanted(name))

    def without_marks(self) -> "FileEntries":
        """Return the files without their change marks, which are empty then."""
        bare = self._copy()
        bare._marks = None
        return bare

    def _copy(self) -> "FileEntries":
        copy = FileEntries(self._url)
        copy.__dict__.update(self.__dict__)
        return copy

    def _row(self, place: int) -> int:
        if not 0 <= place < len(self):
            raise IndexError(place)
        return place if self._rows is None else self._rows[place]

    def _length(self, row: int) -> int | None:
        length = self._lengths[row]
        return None if length == UNKNOWN else length
