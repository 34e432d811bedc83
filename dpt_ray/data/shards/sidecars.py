"""Sidecars: values computed for each image, in one Parquet file for each shard, with rows in the shard's order."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.text import one_line

SidecarColumns: TypeAlias = dict[str, Any]
"""Name of a column -> its values: `KEY` as a list of strings, any other as an array (N, ...)."""

KEY = "key"
_FACTS = b"facts"


def sidecar_name(position: int) -> str:
    """Return the file name of the sidecar that belongs to the shard at `position` in the index."""
    return f"{position:05d}.parquet"


def encode_sidecar(
    keys: Sequence[str],
    columns: Mapping[str, np.ndarray],
    facts: Mapping[str, Any] | None = None,
    *,
    group_rows: int | None = None,
) -> bytes:
    """Return a sidecar's bytes.

    Args:
        keys: the shard's keys in order.
        columns: name -> array (N,) or (N, D). An array uint64 (N, D) holds hashes, which are stored uncompressed and
            without a dictionary, since their values are random.
        facts: JSON values about the whole shard, stored in the file's metadata.
        group_rows: rows of a row group, the least that `read_sidecar_rows` fetches; None for one group of all.
    """
    arrays: dict[str, pa.Array] = {KEY: pa.array(keys, pa.string())}
    hashes = [name for name, values in columns.items() if values.ndim == 2 and values.dtype == np.uint64]
    for name, values in columns.items():
        arrays[name] = _binary(values) if name in hashes else _numbers(values)
    buffer = io.BytesIO()
    table = pa.table(arrays).replace_schema_metadata({_FACTS: json.dumps(facts or {})})
    pq.write_table(
        table,
        buffer,
        compression={name: "none" if name in hashes else "zstd" for name in arrays},
        # A small row group gains nothing from a dictionary of its numbers, nor from statistics in the footer.
        use_dictionary=[name for name in arrays if name not in hashes and not (group_rows and name != KEY)],
        write_statistics=group_rows is None,
        write_page_checksum=True,
        row_group_size=group_rows,
    )
    return buffer.getvalue()


def _numbers(values: np.ndarray) -> pa.Array:
    flat = pa.array(values.reshape(-1))
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _binary(words: np.ndarray) -> pa.Array:
    content = np.ascontiguousarray(words, "<u8")
    type_ = pa.binary(8 * words.shape[1])
    return pa.FixedSizeBinaryArray.from_buffers(type_, len(words), [None, pa.py_buffer(content)])


def _words(column: pa.Array) -> np.ndarray:
    width, start = column.type.byte_width, column.offset
    content = np.frombuffer(column.buffers()[1], np.uint8)[start * width : (start + len(column)) * width]
    return content.view("<u8").reshape(len(column), width // 8)


def decode_sidecar(data: bytes, where: str, columns: Sequence[str] | None = None) -> SidecarColumns:
    """Return a sidecar's columns: `key` as a list of str, the others as arrays (N,) or (N, D).

    Args:
        data: the sidecar's content.
        where: its URL, for messages.
        columns: names of the columns to read beside `key`; None for all.

    Raises:
        UserError: the content is no sidecar, or a column is missing.
    """
    with arrow_errors(where):
        return columns_of(pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True), where, columns)


@contextmanager
def arrow_errors(where: str) -> Iterator[None]:
    """Raise a `UserError` about the sidecar at a URL for each error of Arrow within the context."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"is not a readable sidecar ({one_line(error)})", where=where) from None


def columns_of(
    file: pq.ParquetFile, where: str, columns: Sequence[str] | None = None, groups: Sequence[int] | None = None
) -> SidecarColumns:
    """Return the columns of an open sidecar; see `decode_sidecar`.

    Args:
        file: the sidecar.
        where: its URL, for messages.
        columns: names of the columns to read beside `key`; None for all.
        groups: numbers of the row groups to read; None for all.

    Raises:
        UserError: a column is missing.
    """
    missing = {KEY, *(columns or ())} - set(file.schema_arrow.names)
    if missing:
        raise UserError(f"lacks the column {sorted(missing)[0]!r}", where=where)
    names = None if columns is None else [KEY, *columns]
    table = file.read(columns=names) if groups is None else file.read_row_groups(groups, columns=names)
    result: SidecarColumns = {KEY: table.column(KEY).to_pylist()}
    for name in table.column_names:
        if name != KEY:
            column = table.column(name).combine_chunks()
            if pa.types.is_fixed_size_list(column.type):
                values = column.flatten().to_numpy(zero_copy_only=False)
                result[name] = values.reshape(len(column), column.type.list_size)
            elif pa.types.is_fixed_size_binary(column.type):
                result[name] = _words(column)
            else:
                result[name] = column.to_numpy(zero_copy_only=False)
    return result


def sidecar_facts(data: bytes, where: str) -> JsonObject:
    """Return the facts in a sidecar's metadata; see `encode_sidecar`.

    Args:
        data: the sidecar's content.
        where: its URL, for messages.

    Raises:
        UserError: the content is no sidecar.
    """
    try:
        metadata = pq.read_schema(io.BytesIO(data)).metadata
    except (pa.ArrowException, OSError) as error:
        raise _without_facts(error, where) from None
    return metadata_facts(metadata, where)


def metadata_facts(metadata: Mapping[bytes, bytes] | None, where: str) -> JsonObject:
    """Return the facts in the metadata of a sidecar's schema; see `sidecar_facts`."""
    try:
        facts = json.loads((metadata or {})[_FACTS])
        if not isinstance(facts, dict):
            raise TypeError("its facts are no object")
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise _without_facts(error, where) from None
    return facts


def _without_facts(error: Exception, where: str) -> UserError:
    reason = f"{type(error).__name__}: {one_line(error)}"
    return UserError(f"is not a readable sidecar ({reason})", where=where, fix="remove it; it is made again")


def read_sidecar(url: str, columns: Sequence[str] | None = None) -> SidecarColumns:
    """Read a sidecar file; see `decode_sidecar`."""
    return decode_sidecar(stores.read_bytes(url), url, columns)
