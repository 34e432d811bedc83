"""Read the parts of Thrift's compact protocol that Parquet metadata uses.

Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from collections.abc import Mapping
from typing import Any

Fields = Mapping[int, "Fields"]
"""Ids of the fields to return, each with the fields to return of the structs in it."""

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_NUMBERS = (_I16, _I32, _I64)
_MAX_DEPTH = 32
"""Maximum nesting of structs and lists; that of Parquet is 8."""


class ThriftError(ValueError):
    """The bytes are not a struct of the compact protocol, or one that is nested deeper or larger than in Parquet."""


class Reader:
    """Read consecutive structs from bytes.

    Args:
        data: the bytes.
        kept: fields to return. Other fields are checked and dropped.
        offset: byte offset of the first struct.
        max_elements: maximum number of structs read and texts returned, including those in lists.
    """

    def __init__(self, data: bytes, kept: Fields, offset: int = 0, max_elements: int = 1 << 20):
        self.offset, self.elements = offset, 0
        self._data, self._max_elements, self._kept = data, max_elements, kept

    def read_struct(self) -> dict[int, Any]:
        """Return kept fields by id: int for a number, bytes for a text, dict for a struct, list for a list of those.

        For a list of numbers its length is returned. Booleans, maps and floating-point numbers are dropped.

        Raises:
            ThriftError: the bytes end within the struct, are not a struct, or repeat a field. No writer repeats a
                field, and generated readers would merge the two.
        """
        return self._struct(self._kept, 0)

    def _struct(self, kept: Fields, depth: int) -> dict[int, Any]:
        if depth > _MAX_DEPTH:
            raise ThriftError("structs are nested too deeply")
        self._count()
        fields: dict[int, Any] = {}
        number = 0
        while header := self._byte():
            kind, step = header & 15, header >> 4
            number = number + step if step else self._signed()
            if kind in (_TRUE, _FALSE):
                continue
            value = self._value(kind, kept.get(number), depth)
            if value is not None and number in kept:
                if number in fields:
                    raise ThriftError("a field stands twice")
                fields[number] = value
        return fields

    def _value(self, kind: int, kept: Fields | None, depth: int) -> Any:
        """Read a value and return it as `read_struct` does; None if it is dropped, as it may be without `kept`."""
        if kind in _NUMBERS:
            return self._signed()
        if kind == _STRUCT:
            return self._struct(kept or {}, depth + 1)
        if kind in (_LIST, _SET):
            return self._list(kept, depth)
        if kind == _BINARY:
            return self._text(kept)
        if kind == _MAP:
            self._map(depth)
        elif kind == _DOUBLE:
            self._skip(8)
        elif kind in (_TRUE, _FALSE, _BYTE):  # in lists and maps, a boolean takes a byte
            self._skip(1)
        else:
            raise ThriftError("holds a value of no known type")
        return None

    def _text(self, kept: Fields | None) -> bytes | None:
        size = self._unsigned()
        self._skip(size)
        if kept is None:
            return None
        self._count()
        return self._data[self.offset - size : self.offset]

    def _list(self, kept: Fields | None, depth: int) -> int | list[Any]:
        header = self._byte()
        size = header >> 4 if header >> 4 < 15 else self._unsigned()
        self._check_deeper(depth, size)
        kind = header & 15
        if kept is not None and kind in (_STRUCT, _BINARY):
            return [self._value(kind, kept, depth + 1) for _ in range(size)]
        for _ in range(size):
            self._value(kind, None, depth + 1)
        return size

    def _map(self, depth: int) -> None:
        size = self._unsigned()
        kinds = self._byte() if size else 0
        self._check_deeper(depth, size)
        for _ in range(size):
            self._value(kinds >> 4, None, depth + 1)
            self._value(kinds & 15, None, depth + 1)

    def _count(self) -> None:
        self.elements += 1
        if self.elements > self._max_elements:
            raise ThriftError(f"holds more than {self._max_elements:,} structs")

    def _check_deeper(self, depth: int, size: int) -> None:
        if depth >= _MAX_DEPTH:
            raise ThriftError("lists are nested too deeply")
        if size > len(self._data) - self.offset:  # every element takes at least one byte
            raise ThriftError("a list is longer than the bytes")

    def _byte(self) -> int:
        if self.offset >= len(self._data):
            raise ThriftError("the bytes end inside a struct")
        self.offset += 1
        return self._data[self.offset - 1]

    def _skip(self, size: int) -> None:
        if size > len(self._data) - self.offset:
            raise ThriftError("the bytes end inside a struct")
        self.offset += size

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
