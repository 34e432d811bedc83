"""Parquet files before their rows are read: footers, and the values of one small column."""

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
from dpt_ray.data.importing.parquet_file import ParquetFile, open_parquet, rows_together, text_leaf
from dpt_ray.data.importing.parquet_pages import ImplausibleFileError
from dpt_ray.data.importing.tree import FileEntry
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.text import one_line

MAX_LABEL_BYTES = 256 << 20
"""Bytes of the labels of one row group, uncompressed. What is larger holds something other than labels."""
MAX_LABEL_CHARACTERS = 1000
"""Characters of the longest text that is read as a label; names are shorter still, but may have space around them."""
MAX_DIFFERENT_CHARACTERS = 64 << 20
"""Characters of all different texts together that are read as labels of a file."""
DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)
"""What pyarrow raises over a damaged file; names that are no text give the last one."""
_FOOTERS_TOGETHER = 8
_ROWS_TOGETHER = 1 << 16


@dataclass(frozen=True)
class Table:
    """A Parquet file: its name, URL, rows of each row group, and schema."""

    name: str
    url: str
    groups: tuple[int, ...]
    schema: pa.Schema

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(self.groups)


def read_footers(files: Sequence[FileEntry]) -> tuple[list[Table], list[Skipped]]:
    """Return the readable tables in order, and entries for the others, with the images that are lost as a guess.

    Raises:
        UserError: no file is readable.
    """
    with ThreadPoolExecutor(_FOOTERS_TOGETHER) as pool:
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
    """Return a file's metadata, or what is wrong with it."""
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
    """Return the complaint about a file that Arrow cannot read."""
    return f"is not a readable Parquet file ({type(error).__name__}: {one_line(error)})"


def largest_values(tables: Sequence[Table], column: Sequence[str]) -> list[int | None]:
    """Return the largest whole number of a column of each file by its statistics; None if they do not say it."""
    with ThreadPoolExecutor(_FOOTERS_TOGETHER) as pool:
        return list(pool.map(_largest_value, tables, column))


def _largest_value(table: Table, column: str) -> int | None:
    largest = -1
    with open_parquet(table.url) as file:
        for columns, rows in zip(file.columns, table.groups, strict=False):  # a file that changed is noticed when read
            found = columns[column]
            if not rows or found.nulls == rows:
                continue
            if found.largest is None:
                return None
            largest = max(largest, found.largest)
    return largest


def count_values(table: Table, column: str) -> Counter[Any]:
    """Return how many rows have each value of a column. A row group that cannot be read is left out.

    Text is read as a dictionary, so memory is bounded by the file's own size of the column.

    Raises:
        UserError: the column holds too much to be labels, too long texts, or more values than there are class ids; or
            the store does not answer.
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
    """Pass over what cannot be read: whoever reads the rows finds the same damage, and lists them.

    Raises:
        UserError: the store does not answer, or what is read is implausible.
    """
    try:
        yield
    except ImplausibleFileError as error:
        raise UserError(str(error), where=url) from None
    except (pa.ArrowException, OSError):
        stores.exists(url)  # raises an error if the store does not answer


def _read_values(file: ParquetFile, group: int, table: Table, column: str) -> Iterator[pa.Array]:
    """Yield the values of a column in a row group."""
    leaf = text_leaf(column)
    chunks = file.load(group, [leaf])
    size = sum(chunk.pages.total for chunk in chunks)
    if size > MAX_LABEL_BYTES:
        raise _no_labels(table, column, f"{size >> 20:,} MiB in one row group")
    kind = table.schema.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    shared = is_text and not any(chunk.pages.has_prefixes for chunk in chunks)  # Arrow has no dictionary of prefixes
    rows = _ROWS_TOGETHER if shared else rows_together(chunks, _ROWS_TOGETHER)
    for batch in file.batches(group, [leaf], rows, as_dictionary=[column] if shared else []):
        yield batch.column(0)


def _count(values: pa.Array, counts: Counter[Any], table: Table, column: str) -> int:
    """Add values to the counts; return the characters of texts that were not among them before."""
    characters = 0
    for entry in pc.value_counts(values):
        try:
            value = entry["values"].as_py()
        except UnicodeDecodeError:  # is no class; its rows are listed when they are read
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
