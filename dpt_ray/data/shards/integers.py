"""Short whole numbers in few bytes: rows of a shard, and class ids."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np


class Integers(Sequence[int]):
    """An immutable sequence of numbers, each in as few bytes as the largest one needs.

    A tuple takes 8 B a number, and 32 B more for each number above 256. Two sequences are equal if their numbers are.

    Args:
        values: whole numbers from 0 to 2^64 - 1.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Iterable[int] | np.ndarray):
        given = np.asarray(values if isinstance(values, np.ndarray) else list(values))
        self._values = given.astype(np.min_scalar_type(int(given.max(initial=0))))
        self._values.flags.writeable = False

    @overload
    def __getitem__(self, place: int) -> int: ...

    @overload
    def __getitem__(self, place: slice) -> "Integers": ...

    def __getitem__(self, place: int | slice) -> "int | Integers":
        return Integers(self._values[place]) if isinstance(place, slice) else int(self._values[place])

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[int]:
        return iter(self._values.tolist())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._values, dtype) if copy else np.asarray(self._values, dtype)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Integers) and np.array_equal(self._values, other._values)

    def __hash__(self) -> int:
        return hash(self._values.tobytes())

    def __reduce__(self) -> tuple[Any, ...]:
        return Integers, (self._values,)

    def __repr__(self) -> str:
        return f"Integers({self._values.tolist()})"
