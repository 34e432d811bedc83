"""Read the metadata of column chunks from a Parquet footer.

pyarrow's `RowGroupMetaData.column` throws a C++ exception, which ends the process, if a column is encrypted or if its
type or size statistics do not fit the schema. So footers are read and checked here.
Source of the field ids: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
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
        path: its name after the names of the columns that it is nested in, with dots between.
        values: number of values.
        start: byte offset of the first page in the file.
        compressed: bytes of the pages in the file.
        nulls: number of missing values; None if the statistics lack it.
        largest: the largest value; None if it is not an integer or the statistics lack it.
    """

    path: str
    values: int
    start: int
    compressed: int
    nulls: int | None
    largest: int | None


def read_row_groups(content: bytes, footer: pq.FileMetaData) -> list[dict[str, ColumnChunk]]:
    """Return the column chunks of each row group by path.

    Args:
        content: the bytes of the footer, without its length and the magic number at the end of the file.
        footer: the same footer as pyarrow parsed it.

    Raises:
        ValueError: the bytes are not a footer; a row group lacks its number of rows or has other columns than the
            schema; or a column is encrypted, or its type or size statistics do not fit the schema.
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
        schema_column.path: _read_column(index, column, schema_column)
        for index, (column, schema_column) in enumerate(zip(columns, schema, strict=True))
    }


def _read_column(index: int, column: dict[int, Any], schema: Any) -> ColumnChunk:
    metadata = _checked(column.get(_METADATA, {}), dict)
    if _ENCRYPTED in column:
        raise ValueError(f"column {index} is encrypted")
    path = b".".join(_checked(metadata.get(_PATH), list)).decode()
    kind = _number(metadata, _TYPE)
    if path != schema.path or not 0 <= kind < len(_TYPES) or _TYPES[kind] != schema.physical_type:
        raise ValueError(f"column {index} does not fit the schema")
    _check_sizes(index, _checked(metadata.get(_SIZES, {}), dict), schema)
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
    # The deprecated field compares values as signed numbers, so it is wrong for unsigned ones.
    value = statistics.get(_MAX) or (None if unsigned else statistics.get(_OLD_MAX))
    if schema.converted_type == "DECIMAL" or not value or len(value) != _WIDTHS.get(schema.physical_type):
        return None
    return int.from_bytes(value, "little", signed=not unsigned)


def _check_sizes(index: int, sizes: dict[int, Any], schema: Any) -> None:
    if _TEXT_BYTES in sizes and schema.physical_type != "BYTE_ARRAY":
        raise ValueError(f"size statistics of column {index} with bytes of texts, of which it holds none")
    for field, largest in ((_REPETITIONS, schema.max_repetition_level), (_DEFINITIONS, schema.max_definition_level)):
        if sizes.get(field, 0) not in (0, largest + 1):
            raise ValueError(f"size statistics of column {index} with {sizes[field]} levels")


def _structs(parent: dict[int, Any], field: int) -> list[dict[int, Any]]:
    return _checked(parent.get(field) or [], list)  # an empty list may have any type of elements


def _number(parent: dict[int, Any], field: int) -> int:
    return _checked(parent.get(field), int)


def _checked(value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise ValueError("a field is missing or of another type")
    return value
