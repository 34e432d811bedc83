"""Thrift's compact protocol, as far as checks of Parquet files need it: numbers, lengths of lists, inner structs.

Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from collections.abc import Mapping
from typing import Any

Fields = Mapping[int, "Fields"]
"""Ids of fields, each with those that are kept of its structs."""

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_NUMBERS = (_I16, _I32, _I64)
_NOTHING: Fields = {}
_MAX_DEPTH = 32
"""Structs and lists inside one another; Parquet's own go to 8."""


class ThriftError(ValueError):
    """Bytes that are no struct of the compact protocol, or one that is deeper or larger than any of Parquet's."""


class Reader:
    """Reads structs out of bytes, one after another.

    Args:
        data: the bytes.
        place: where the first struct begins.
        max_elements: structs that may be read, those in lists included.
        kept: fields that are returned; all by default. What is not returned is read all the same.
    """

    def __init__(self, data: bytes, place: int = 0, max_elements: int = 1 << 20, kept: Fields | None = None):
        self.place, self.elements = place, 0
        self._data, self._max_elements, self._kept = data, max_elements, kept

    def read_struct(self) -> dict[int, Any]:
        """Return fields by id: numbers, dictionaries for structs, lists of structs, and the length of other lists.

        Other values are passed over.

        Raises:
            ThriftError: the bytes end before the struct, are none, or have a field twice. Generated readers merge
                such fields, and writers write none.
        """
        return self._struct(self._kept, 0)

    def _struct(self, kept: Fields | None, depth: int) -> dict[int, Any]:
        if depth > _MAX_DEPTH:
            raise ThriftError("structs are nested too deeply")
        self.elements += 1
        if self.elements > self._max_elements:
            raise ThriftError(f"holds more than {self._max_elements:,} structs")
        fields: dict[int, Any] = {}
        number = 0
        while header := self._byte():
            kind, step = header & 15, header >> 4
            number = number + step if step else self._signed()
            if kind in (_TRUE, _FALSE):
                continue
            value = self._value(kind, kept if kept is None else kept.get(number, _NOTHING), depth)
            if value is not None and (kept is None or number in kept):
                if number in fields:
                    raise ThriftError("a field stands twice")
                fields[number] = value
        return fields

    def _value(self, kind: int, kept: Fields | None, depth: int) -> int | dict[int, Any] | list[dict[int, Any]] | None:
        """Read a value; return it if it is a number, a struct or a list."""
        if kind in _NUMBERS:
            return self._signed()
        if kind == _STRUCT:
            return self._struct(kept, depth + 1)
        if kind in (_LIST, _SET):
            return self._list(kept, depth)
        if kind == _BINARY:
            self._skip(self._unsigned())
        elif kind == _MAP:
            self._map(depth)
        elif kind == _DOUBLE:
            self._skip(8)
        elif kind in (_TRUE, _FALSE, _BYTE):  # in lists and maps, truth values take a byte
            self._skip(1)
        else:
            raise ThriftError("holds a value of no known type")
        return None

    def _list(self, kept: Fields | None, depth: int) -> int | list[dict[int, Any]]:
        header = self._byte()
        size = header >> 4 if header >> 4 < 15 else self._unsigned()
        self._check_deeper(depth, size)
        if header & 15 == _STRUCT and kept is not _NOTHING:
            return [self._struct(kept, depth + 2) for _ in range(size)]
        for _ in range(size):
            self._value(header & 15, _NOTHING, depth + 1)
        return size

    def _map(self, depth: int) -> None:
        size = self._unsigned()
        kinds = self._byte() if size else 0
        self._check_deeper(depth, size)
        for _ in range(size):
            self._value(kinds >> 4, _NOTHING, depth + 1)
            self._value(kinds & 15, _NOTHING, depth + 1)

    def _check_deeper(self, depth: int, size: int) -> None:
        if depth >= _MAX_DEPTH:
            raise ThriftError("lists are nested too deeply")
        if size > len(self._data) - self.place:  # every element takes a byte at least
            raise ThriftError("a list is longer than the bytes")

    def _byte(self) -> int:
        if self.place >= len(self._data):
            raise ThriftError("the bytes end inside a struct")
        self.place += 1
        return self._data[self.place - 1]

    def _skip(self, size: int) -> None:
        if size > len(self._data) - self.place:
            raise ThriftError("the bytes end inside a struct")
        self.place += size

    def _unsigned(self) -> int:
        value = self._byte()
        if value < 128:
            return value
        value &= 127
        for shift in range(7, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ThriftError("a number is too long")

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)
