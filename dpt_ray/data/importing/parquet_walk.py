"""What ends the process in a Parquet footer: size statistics that do not fit their column, and encrypted columns.

pyarrow's `RowGroupMetaData.column` throws a C++ exception at those, which nothing catches. So a footer is walked first.
It is Thrift's compact protocol: fields of a number and a type, one after another.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

_TRUE, _FALSE, _BYTE, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 6, 7, 8, 9, 10, 11, 12
_REPETITIONS, _DEFINITIONS = (4, 1, 3, 16, 2), (4, 1, 3, 16, 3)
"""Fields that lead to the histograms: row groups, columns, metadata, size statistics, histogram."""
_TEXT_BYTES, _ENCRYPTED = (4, 1, 3, 16, 1), (4, 1, 8)
"""Bytes of texts, in the size statistics; how a column is encrypted."""
_COLUMNS = (4, 1)
_MOST_DEPTH = 32
_LONGEST_NUMBER = 10


def check_footer(footer: pq.FileMetaData, content: bytes) -> None:
    """Refuse a footer whose row groups have other columns than its schema, or no number of rows.

    Raises:
        pa.ArrowInvalid: it is such a footer.
        UnicodeDecodeError: a name is no text.
    """
    schema = [footer.schema.column(number) for number in range(footer.num_columns)]
    try:
        refuse_misfits(
            content,
            [column.max_repetition_level for column in schema],
            [column.max_definition_level for column in schema],
            [column.physical_type == "BYTE_ARRAY" for column in schema],
        )
    except ValueError as error:
        raise pa.ArrowInvalid(str(error)) from None
    columns = [column.path for column in schema]
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        found = [group.column(place).path_in_schema for place in range(group.num_columns)]
        if found != columns or group.num_rows < 0:
            raise pa.ArrowInvalid(f"row group {number} does not fit the schema")


def refuse_misfits(footer: bytes, repetitions: list[int], definitions: list[int], texts: list[bool]) -> None:
    """Refuse a footer whose size statistics have not its schema's levels or types, or with an encrypted column.

    Args:
        footer: the footer itself, without its length and the mark at the file's end.
        repetitions: the largest repetition level of each column.
        definitions: the largest definition level of each column.
        texts: whether a column holds texts, or other values of any length.

    Raises:
        ValueError: it is such a footer, or none.
    """
    largest: dict[tuple[int, ...], list[int]] = {_REPETITIONS: repetitions, _DEFINITIONS: definitions}
    try:
        for path, column, count in _Walk(footer).struct(()):
            if path == _ENCRYPTED:
                raise ValueError(f"column {column} is encrypted")
            if path == _TEXT_BYTES:
                if not texts[column]:
                    raise ValueError(f"size statistics of column {column} with bytes of texts, of which it holds none")
            elif count not in (0, largest[path][column] + 1):
                raise ValueError(f"size statistics of column {column} with {count} levels")
    except IndexError:
        raise ValueError("a footer that ends early, or with too many columns") from None


class _Walk:
    """A pass over Thrift's compact protocol."""

    def __init__(self, data: bytes):
        self._data, self._place, self._column = data, 0, 0

    def struct(self, path: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], int, int]]:
        """Pass over a struct; yield path, column and, of histograms, length of each field that is looked at."""
        if len(path) > _MOST_DEPTH:
            raise ValueError("a footer that is nested too deeply")
        number = 0
        while head := self._byte():
            delta = head >> 4
            number = number + delta if delta else self._signed()
            yield from self._value(head & 15, (*path, number))

    def _value(
        self, kind: int, path: tuple[int, ...], *, in_list: bool = False
    ) -> Iterator[tuple[tuple[int, ...], int, int]]:
        if path in (_TEXT_BYTES, _ENCRYPTED):
            yield path, self._column, 0
        if kind in (_TRUE, _FALSE):
            self._place += in_list  # elsewhere the type is the value
        elif kind == _BYTE:
            self._place += 1
        elif _BYTE < kind <= _I64:
            self._number()
        elif kind == _DOUBLE:
            self._place += 8
        elif kind == _BINARY:
            length = self._number()
            self._place += length
        elif kind in (_LIST, _SET):
            yield from self._list(path)
        elif kind == _MAP:
            count = self._number()
            kinds = self._byte() if count else 0
            for _ in range(count):
                yield from self._value(kinds >> 4, (*path, 0), in_list=True)
                yield from self._value(kinds & 15, (*path, 0), in_list=True)
        elif kind == _STRUCT:
            yield from self.struct(path)
        else:
            raise ValueError("a footer with a field of an unknown type")

    def _list(self, path: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], int, int]]:
        head = self._byte()
        count = self._number() if head >> 4 == 15 else head >> 4
        if path in (_REPETITIONS, _DEFINITIONS):
            yield path, self._column, count
        for number in range(count):
            if path == _COLUMNS:
                self._column = number
            yield from self._value(head & 15, path, in_list=True)

    def _byte(self) -> int:
        byte = self._data[self._place]
        self._place += 1
        return byte

    def _number(self) -> int:
        value = 0
        for place in range(_LONGEST_NUMBER):
            byte = self._byte()
            value |= (byte & 127) << 7 * place
            if byte < 128:
                return value
        raise ValueError("a footer with a number that is too long")

    def _signed(self) -> int:
        value = self._number()
        return value >> 1 ^ -(value & 1)
