"""What a Parquet footer says of each column of each row group.

pyarrow's `RowGroupMetaData.column` throws C++ exceptions, which end the process, at columns of another type than the
schema's, at encrypted ones and at size statistics that do not fit them. So footers are read and checked here.
Source of the fields: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow.parquet as pq

from dpt_ray.data.importing.thrift_compact import Fields, Reader

T = TypeVar("T")

_ROW_GROUPS = 4
_COLUMNS, _ROWS = 1, 3
_METADATA, _ENCRYPTED = 3, 8
_TYPE, _PATH, _VALUES, _COMPRESSED, _DATA_PAGE, _DICTIONARY_PAGE, _STATISTICS, _SIZES = 1, 3, 5, 7, 9, 11, 12, 16
_OLD_MAX, _NULLS, _MAX = 1, 3, 5
_TEXT_BYTES, _REPETITIONS, _DEFINITIONS = 1, 2, 3
_COLUMN: Fields = {
    **{field: {} for field in (_TYPE, _PATH, _VALUES, _COMPRESSED, _DATA_PAGE, _DICTIONARY_PAGE)},
    _STATISTICS: {_OLD_MAX: {}, _NULLS: {}, _MAX: {}},
    _SIZES: {_TEXT_BYTES: {}, _REPETITIONS: {}, _DEFINITIONS: {}},
}
_KEPT: Fields = {_ROW_GROUPS: {_COLUMNS: {_METADATA: _COLUMN, _ENCRYPTED: {}}, _ROWS: {}}}
_TYPES = ("BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
_WIDTHS = {"INT32": 4, "INT64": 8}


@dataclass(frozen=True)
class ColumnChunk:
    """A column in a row group.

    Attributes:
        path: its name, with those of the columns that it is in before it and dots between.
        values: number of its values.
        start: where its first page begins in the file.
        compressed: bytes of its pages in the file.
        nulls: number of missing values, if its statistics say it.
        largest: its largest value, if it is a whole number and its statistics say it.
    """

    path: str
    values: int
    start: int
    compressed: int
    nulls: int | None
    largest: int | None


def read_row_groups(content: bytes, footer: pq.FileMetaData) -> list[dict[str, ColumnChunk]]:
    """Return the columns of each row group by path.

    Args:
        content: the footer itself, without its length and the mark at the file's end.
        footer: the same as pyarrow read it.

    Raises:
        ValueError: a row group has other columns than the schema, or no number of rows; a column is encrypted, or of
            another type than in the schema, or its size statistics do not fit it; or the bytes are no footer.
    """
    schema = [footer.schema.column(number) for number in range(footer.num_columns)]
    groups = _structs(Reader(content, kept=_KEPT).read_struct(), _ROW_GROUPS)
    if len(groups) != footer.num_row_groups:
        raise ValueError(f"{len(groups)} row groups, where {footer.num_row_groups} were read")
    return [_read_row_group(number, group, schema) for number, group in enumerate(groups)]


def _read_row_group(number: int, group: dict[int, Any], schema: list[Any]) -> dict[str, ColumnChunk]:
    columns = _structs(group, _COLUMNS)
    if len(columns) != len(schema) or group.get(_ROWS, -1) < 0:
        raise ValueError(f"row group {number} does not fit the schema")
    return {
        described.path: _read_column(place, column, described)
        for place, (column, described) in enumerate(zip(columns, schema, strict=True))
    }


def _read_column(place: int, column: dict[int, Any], schema: Any) -> ColumnChunk:
    metadata = _checked(column.get(_METADATA, {}), dict)
    if _ENCRYPTED in column:
        raise ValueError(f"column {place} is encrypted")
    path = b".".join(_checked(metadata.get(_PATH), list)).decode()
    kind = _number(metadata, _TYPE)
    if path != schema.path or not 0 <= kind < len(_TYPES) or _TYPES[kind] != schema.physical_type:
        raise ValueError(f"column {place} does not fit the schema")
    _check_sizes(place, _checked(metadata.get(_SIZES, {}), dict), schema)
    start, dictionary = _number(metadata, _DATA_PAGE), metadata.get(_DICTIONARY_PAGE, 0)
    if 0 < dictionary < start:
        start = dictionary
    statistics = _checked(metadata.get(_STATISTICS, {}), dict)
    return ColumnChunk(
        schema.path,
        _number(metadata, _VALUES),
        start,
        _number(metadata, _COMPRESSED),
        statistics.get(_NULLS),
        _largest(statistics, schema),
    )


def _largest(statistics: dict[int, Any], schema: Any) -> int | None:
    unsigned = schema.converted_type.startswith("UINT")
    # The order of the older field is that of signed numbers.
    value = statistics.get(_MAX) or (None if unsigned else statistics.get(_OLD_MAX))
    if schema.converted_type == "DECIMAL" or not value or len(value) != _WIDTHS.get(schema.physical_type):
        return None
    return int.from_bytes(value, "little", signed=not unsigned)


def _check_sizes(place: int, sizes: dict[int, Any], schema: Any) -> None:
    if _TEXT_BYTES in sizes and schema.physical_type != "BYTE_ARRAY":
        raise ValueError(f"size statistics of column {place} with bytes of texts, of which it holds none")
    for field, largest in ((_REPETITIONS, schema.max_repetition_level), (_DEFINITIONS, schema.max_definition_level)):
        if sizes.get(field, 0) not in (0, largest + 1):
            raise ValueError(f"size statistics of column {place} with {sizes[field]} levels")


def _structs(parent: dict[int, Any], field: int) -> list[dict[int, Any]]:
    return _checked(parent.get(field) or [], list)  # an empty list may have any type of elements


def _number(parent: dict[int, Any], field: int) -> int:
    return _checked(parent.get(field), int)


def _checked(value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise ValueError("a field is missing or of another type")
    return value
