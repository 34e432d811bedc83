"""What ends the process in a Parquet footer: size statistics that do not fit their column, and encrypted columns.

pyarrow's `RowGroupMetaData.column` throws a C++ exception at those, which nothing catches. So a footer is read here
first. Source of the fields: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from dpt_ray.data.importing.thrift_compact import Fields, Reader

T = TypeVar("T")

_ROW_GROUPS, _COLUMNS, _METADATA, _ENCRYPTED, _SIZE_STATISTICS = 4, 1, 3, 8, 16
_TEXT_BYTES, _REPETITIONS, _DEFINITIONS = 1, 2, 3
_SIZES: Fields = {_SIZE_STATISTICS: {_TEXT_BYTES: {}, _REPETITIONS: {}, _DEFINITIONS: {}}}
_KEPT: Fields = {_ROW_GROUPS: {_COLUMNS: {_METADATA: _SIZES, _ENCRYPTED: {}}}}


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
    for group in _structs(Reader(footer, kept=_KEPT).read_struct(), _ROW_GROUPS):
        for number, column in enumerate(_structs(group, _COLUMNS)):
            if number >= len(texts):
                raise ValueError("a footer with too many columns")
            if _ENCRYPTED in column:
                raise ValueError(f"column {number} is encrypted")
            sizes = _struct(_struct(column, _METADATA), _SIZE_STATISTICS)
            if _TEXT_BYTES in sizes and not texts[number]:
                raise ValueError(f"size statistics of column {number} with bytes of texts, of which it holds none")
            for field, largest in ((_REPETITIONS, repetitions), (_DEFINITIONS, definitions)):
                if sizes.get(field, 0) not in (0, largest[number] + 1):
                    raise ValueError(f"size statistics of column {number} with {sizes[field]} levels")


def _structs(parent: dict[int, Any], field: int) -> list[dict[int, Any]]:
    return _checked(parent.get(field) or [], list)  # an empty list may have any type of elements


def _struct(parent: dict[int, Any], field: int) -> dict[int, Any]:
    return _checked(parent.get(field, {}), dict)


def _checked(value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise ValueError("a footer with a field of another type")
    return value
