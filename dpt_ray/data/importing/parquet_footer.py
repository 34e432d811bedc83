"""Parquet files before their rows are read: footers, and the values of one small column."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dpt_ray.core.class_ids import MAX_CLASS_ID
from dpt_ray.data.importing.other_formats import FIRST_BYTES, recognise
from dpt_ray.data.importing.text_files import refuse_special_file
from dpt_ray.data.importing.tree import FileEntry
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

MAX_LABEL_BYTES = 256 << 20
"""Bytes of the labels of one row group, uncompressed. What is larger holds something other than labels."""
MAX_LABEL_CHARACTERS = 1000
"""Characters of the longest text that is read as a label; names are shorter still, but may have space around them."""
MAX_DIFFERENT_CHARACTERS = 64 << 20
"""Characters of all different texts together that are read as labels of a file."""
_FOOTERS_TOGETHER = 8
_ROWS_TOGETHER = 1 << 16


@dataclass(frozen=True)
class Table:
    """A Parquet file: its name, URL, metadata and schema."""

    name: str
    url: str
    footer: pq.FileMetaData
    schema: pa.Schema

    @property
    def groups(self) -> list[int]:
        """Rows of each row group."""
        return [self.footer.row_group(number).num_rows for number in range(self.footer.num_row_groups)]


def open_file(url: str) -> Any:
    """Open a file for reading."""
    filesystem, path = stores.filesystem(url)
    return filesystem.open(path, "rb")


def read_footers(files: Sequence[FileEntry]) -> tuple[list[Table], list[Skipped]]:
    """Return the readable tables in order, and entries for the others, with the images that are lost as a guess.

    Raises:
        UserError: no file is readable.
    """
    with ThreadPoolExecutor(_FOOTERS_TOGETHER) as pool:
        read = list(pool.map(_read_footer, files))
    tables = [table for table in read if isinstance(table, Table)]
    guess = sum(table.footer.num_rows for table in tables) // max(1, len(tables))
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
    refuse_special_file(url)
    try:
        with open_file(url) as opened:
            footer = pq.read_metadata(opened)
            return Table(file["name"], url, footer, footer.schema.to_arrow_schema())
    except (pa.ArrowException, OSError) as error:
        found = recognise(stores.read_range(url, 0, FIRST_BYTES))
        if found is not None and not found[0].startswith("a Parquet"):
            return f"is not a readable Parquet file but {found[0]}: {found[1]}"
        return unreadable(error)


def unreadable(error: Exception) -> str:
    """Return the complaint about a file that Arrow cannot read."""
    return f"is not a readable Parquet file ({type(error).__name__}: {' '.join(str(error).split())[:200]})"


def largest_value(table: Table, column: str) -> int | None:
    """Return the largest whole number of a column by the file's statistics; None if they do not say it."""
    largest = -1
    for number in range(table.footer.num_row_groups):
        group = table.footer.row_group(number)
        statistics = _chunk(group, column).statistics
        if not group.num_rows or (statistics is not None and statistics.null_count == group.num_rows):
            continue
        if statistics is None or not statistics.has_min_max or not isinstance(statistics.max, int):
            return None
        largest = max(largest, statistics.max)
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
    for number in range(table.footer.num_row_groups):
        size = _chunk(table.footer.row_group(number), column).total_uncompressed_size
        if size > MAX_LABEL_BYTES:
            raise _no_labels(table, column, f"{size >> 20:,} MiB in one row group")
        try:
            with open_file(table.url) as file:
                parquet = pq.ParquetFile(file, read_dictionary=[column])
                for batch in parquet.iter_batches(_ROWS_TOGETHER, row_groups=[number], columns=[column]):
                    characters += _count(batch.column(0), counts, table, column)
                    if characters > MAX_DIFFERENT_CHARACTERS:
                        raise _no_labels(table, column, f"different texts of more than {characters:,} characters")
                    if len(counts) > MAX_CLASS_ID + 2:  # one of them may be a missing value
                        raise _no_labels(table, column, f"more than {MAX_CLASS_ID + 1:,} different values")
        except (pa.ArrowException, OSError):
            stores.exists(table.url)  # raises an error if the store does not answer
            continue  # whoever reads the rows finds the same damage, and lists them
    return counts


def _count(values: pa.Array, counts: Counter[Any], table: Table, column: str) -> int:
    """Add values to the counts; return the characters of texts that were not among them before."""
    characters = 0
    for entry in pc.value_counts(values):
        value = entry["values"].as_py()
        value = None if value != value else value  # NaN differs from itself
        if isinstance(value, str) and value not in counts:
            characters += len(value)
            if len(value) > MAX_LABEL_CHARACTERS:
                raise _no_labels(table, column, f"a text of {len(value):,} characters")
        counts[value] += entry["counts"].as_py()
    return characters


def _chunk(group: pq.RowGroupMetaData, column: str) -> pq.ColumnChunkMetaData:
    """Return the metadata of a column without fields in a row group."""
    chunks = (group.column(number) for number in range(group.num_columns))
    return next(chunk for chunk in chunks if chunk.path_in_schema == column)


def _no_labels(table: Table, column: str, found: str) -> UserError:
    return UserError(
        f"its column {column!r} holds {found}, which are no labels",
        where=table.url,
        fix="set data.label_column to the classes' column",
    )
