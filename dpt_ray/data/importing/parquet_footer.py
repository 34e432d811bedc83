"""Read what must be known of Parquet files before their rows: the footers, and the values of one small column."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dpt_ray.core.class_ids import MAX_CLASS_ID
from dpt_ray.data.importing.other_formats import FIRST_BYTES, recognise
from dpt_ray.data.importing.parquet_file import ParquetFile, open_parquet, rows_per_batch, text_leaf
from dpt_ray.data.importing.parquet_pages import ImplausibleFileError
from dpt_ray.data.importing.tree import FileEntry
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.text import one_line

MAX_LABEL_BYTES = 256 << 20
"""Maximum uncompressed bytes of the labels of one row group. A larger column does not hold labels."""
MAX_LABEL_CHARACTERS = 1000
"""Maximum number of characters of a label. It exceeds that of a class name, since a label may have space around it."""
MAX_DIFFERENT_CHARACTERS = 64 << 20
"""Maximum number of characters of all distinct labels of a file together."""
DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)
"""Exceptions that pyarrow raises for a damaged file; column names that are not UTF-8 cause the last one."""
_CONCURRENT_READS = 8
_BATCH_ROWS = 1 << 16


@dataclass(frozen=True)
class Table:
    """A Parquet file with its footer's contents.

    Attributes:
        name: name of the file.
        url: URL of the file.
        groups: number of rows of each row group.
        schema: names and types of the columns.
    """

    name: str
    url: str
    groups: tuple[int, ...]
    schema: pa.Schema

    @property
    def rows(self) -> int:
        """The number of rows of the file."""
        return sum(self.groups)


def read_footers(files: Sequence[FileEntry]) -> tuple[list[Table], list[Skipped]]:
    """Return the readable tables in order, and an entry for each other file.

    The number of images in an unreadable file is estimated by the mean number of rows of the readable files.

    Raises:
        UserError: no file is readable.
    """
    with ThreadPoolExecutor(_CONCURRENT_READS) as pool:
        read = list(pool.map(_read_footer, files))
    tables = [table for table in read if isinstance(table, Table)]
    guess = sum(table.rows for table in tables) // max(1, len(tables))
    refused = [
        Skipped(file["url"], None, reason, images=max(1, guess))
        for file, reason in zip(files, read, strict=True)
        if isinstance(reason, str)
    ]
    if not tables:
        raise UserError(refused[0].reason, where=refused[0].where)
    return tables, refused


def _read_footer(file: FileEntry) -> Table | str:
    """Return a file's metadata, or the reason why it cannot be read."""
    url = file["url"]
    try:
        with open_parquet(url) as opened:
            return Table(file["name"], url, opened.groups, opened.schema)
    except ImplausibleFileError as error:
        return str(error)
    except DAMAGE as error:
        found = recognise(stores.read_range(url, 0, FIRST_BYTES))
        if found is not None and not found[0].startswith("a Parquet"):
            return f"is not a readable Parquet file but {found[0]}: {found[1]}"
        return unreadable(error)


def unreadable(error: Exception) -> str:
    """Return the reason for a file that Arrow cannot read."""
    return f"is not a readable Parquet file ({type(error).__name__}: {one_line(error)})"


def largest_values(tables: Sequence[Table], column: Sequence[str]) -> list[int | None]:
    """Return the largest integer of a column in each file, by the statistics in the footer; None if they lack it.

    Args:
        tables: the files.
        column: for each file, the name of its column.
    """
    with ThreadPoolExecutor(_CONCURRENT_READS) as pool:
        return list(pool.map(_largest_value, tables, column))


def _largest_value(table: Table, column: str) -> int | None:
    largest = -1
    with open_parquet(table.url) as file:
        for columns, rows in zip(file.columns, table.groups, strict=False):  # `read_parquet` reports a changed file
            found = columns[column]
            if not rows or found.nulls == rows:
                continue
            if found.largest is None:
                return None
            largest = max(largest, found.largest)
    return largest


def count_values(table: Table, column: str) -> Counter[Any]:
    """Return the number of rows of each value of a column. Row groups that cannot be read are skipped.

    Text is read as a dictionary, so the size of the column in the file bounds the memory.

    Raises:
        UserError: the column holds too many bytes, too long texts or more distinct values than labels can; or the store
            does not answer.
    """
    counts: Counter[Any] = Counter()
    characters = 0
    with _readable(table.url), open_parquet(table.url) as file:
        for number, rows in enumerate(table.groups):
            if not rows:
                continue
            with _readable(table.url):
                for values in _read_values(file, number, table, column):
                    characters += _count(values, counts, table, column)
                    if characters > MAX_DIFFERENT_CHARACTERS:
                        raise _no_labels(table, column, f"different texts of more than {characters:,} characters")
                    if len(counts) > MAX_CLASS_ID + 2:  # one of them may be a missing value
                        raise _no_labels(table, column, f"more than {MAX_CLASS_ID + 1:,} different values")
    return counts


@contextmanager
def _readable(url: str) -> Iterator[None]:
    """Suppress errors of damaged data. `read_parquet` meets the same damage, and lists the rows that are lost.

    Raises:
        UserError: the store does not answer, or the content is implausible.
    """
    try:
        yield
    except ImplausibleFileError as error:
        raise UserError(str(error), where=url) from None
    except (pa.ArrowException, OSError):
        stores.exists(url)  # raises an error if the store does not answer


def _read_values(file: ParquetFile, group: int, table: Table, column: str) -> Iterator[pa.Array]:
    """Yield the values of a column in a row group, in batches."""
    leaf = text_leaf(column)
    chunks = file.load(group, [leaf])
    size = sum(chunk.pages.total for chunk in chunks)
    if size > MAX_LABEL_BYTES:
        raise _no_labels(table, column, f"{size >> 20:,} MiB in one row group")
    kind = table.schema.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    # Arrow cannot read pages with shared prefixes (DELTA_BYTE_ARRAY) as a dictionary.
    shared = is_text and not any(chunk.pages.has_prefixes for chunk in chunks)
    rows = _BATCH_ROWS if shared else rows_per_batch(chunks, _BATCH_ROWS)
    for batch in file.batches(group, [leaf], rows, as_dictionary=[column] if shared else []):
        yield batch.column(0)


def _count(values: pa.Array, counts: Counter[Any], table: Table, column: str) -> int:
    """Add values to `counts`; return the number of characters of texts that are new there."""
    characters = 0
    for entry in pc.value_counts(values):
        try:
            value = entry["values"].as_py()
        except UnicodeDecodeError:  # not a class; `read_parquet` lists its rows
            continue
        value = None if value != value else value  # NaN differs from itself
        if isinstance(value, str) and value not in counts:
            characters += len(value)
            if len(value) > MAX_LABEL_CHARACTERS:
                raise _no_labels(table, column, f"a text of {len(value):,} characters")
        counts[value] += entry["counts"].as_py()
    return characters


def _no_labels(table: Table, column: str, found: str) -> UserError:
    return UserError(
        f"its column {column!r} holds {found}, which are no labels",
        where=table.url,
        fix="set data.label_column to the classes' column",
    )
