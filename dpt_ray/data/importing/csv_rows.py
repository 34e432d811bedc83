"""Read the rows of a CSV table of labels, in any usual separator and encoding."""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dpt_ray.data.importing.column_names import list_columns
from dpt_ray.data.importing.text_files import read_lines
from dpt_ray.data.shards.keys import has_image_name, normalise_name
from dpt_ray.errors import UserError

SEPARATORS = ",;\t|"
MAX_ROW = 1 << 20
"""Maximum number of characters of a row. A field may have 131,072, the limit of Python's module `csv`."""
_KIND = "CSV table"
_SEPARATOR_LINE = re.compile(r"sep=([,;\t| :])\s*", re.IGNORECASE)
"""The first line by which Excel declares a separator, such as `sep=;`."""


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        line: number of its first line in the file, from 1.
        file: the file that it names.
        label: its label as written; empty for an unlabelled image.
    """

    line: int
    file: str
    label: str


def read_rows(table: str, file_column: str, label_column: str) -> list[Row]:
    """Return the rows of a table of labels. Rows without any text are skipped.

    The separator is the one of `SEPARATORS` with which the header holds both columns.

    Args:
        table: URL of the table.
        file_column: the column with file names.
        label_column: the column with labels.

    Raises:
        UserError: the file is not a CSV table, lacks a column or has it twice, has a row with more fields than the
            header or too few for both columns, or has no rows.
    """
    lines = _Lines(table)
    try:
        separator, columns = _read_header(lines, {file_column, label_column})
        file = _find(columns, file_column, "data.image_column", table)
        label = _find(columns, label_column, "data.label_column", table)
        rows, uneven = [], []
        for number, (line, fields) in enumerate(_records(lines, separator), start=1):
            # Excel omits the separators of empty cells at the end of a row.
            if max(file, label) < len(fields) <= len(columns):
                rows.append(Row(line, fields[file].strip(), fields[label].strip()))
            else:
                uneven.append((number, line, len(fields)))
    except csv.Error as error:
        raise UserError(f"is not a readable {_KIND} (line {lines.number}: {error})", where=table) from None
    if uneven:
        number, line, found = uneven[0]
        more = f" ({len(uneven) - 1:,} more rows have a wrong number of fields)" if len(uneven) > 1 else ""
        raise UserError(
            f"row {number} (line {line}) has {found} fields but the header has {len(columns)}{more}",
            where=table,
            fix=f"give every row a field for each column; put fields that hold {separator!r} into quotes",
        )
    if not rows:
        raise UserError("lists no images", where=table)
    return rows


class _Lines:
    """Iterate over the lines of a table for `csv.reader`, and bound the length of each row."""

    def __init__(self, table: str):
        self._lines = read_lines(table, _KIND)
        self._characters = 0
        self.number = 0
        """Number of lines read so far."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        self._characters += len(line)
        if self._characters > MAX_ROW:
            raise csv.Error(f"a row longer than {MAX_ROW:,} characters; a quotation mark may lack its partner")
        return line

    def begin_row(self) -> None:
        """Reset the count of characters at the start of a row."""
        self._characters = 0


def _read_header(lines: _Lines, wanted: set[str]) -> tuple[str, list[str]]:
    """Return the separator and the column names."""
    separators = SEPARATORS
    first = next((line for line in lines if line.strip()), "")
    if chosen := _SEPARATOR_LINE.fullmatch(first):
        separators, first = chosen[1], next((line for line in lines if line.strip()), "")

    def columns(separator: str, lines_below: Iterable[str]) -> list[str]:
        reader = _reader(itertools.chain([first], lines_below), separator, strict=False)
        return [normalise_name(column.strip()) for column in next(reader, [])]

    def rank(separator: str) -> tuple[int, int]:
        found = columns(separator, ())
        return len(wanted & set(found)), len(found)

    separator = max(separators, key=rank)
    return separator, columns(separator, lines)


def _records(lines: _Lines, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line's number and the fields of each row that holds text."""
    lines.begin_row()
    line = lines.number + 1
    for fields in _reader(lines, separator, strict=True):
        if any(map(str.strip, fields)):
            yield line, fields
        lines.begin_row()
        line = lines.number + 1


def _reader(lines: Iterator[str], separator: str, strict: bool) -> Iterator[list[str]]:
    return csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=strict)


def _find(columns: list[str], wanted: str, setting: str, table: str) -> int:
    """Return the position of a column."""
    wanted = normalise_name(wanted)
    count = columns.count(wanted)
    if count == 1:
        return columns.index(wanted)
    if count > 1:
        fix = f"rename one of them, or set {setting} to another column"
        raise UserError(f"has {count} columns called {wanted!r}", where=table, fix=fix)
    alike = [column for column in columns if column.casefold() == wanted.strip().casefold()]
    if alike:
        fix = f"set {setting} to {alike[0]!r}"
    elif any(map(has_image_name, columns)):
        fix = "give the table a first line with the names of its columns"
    elif len(columns) == 1:
        fix = f"set {setting}; columns are separated by a comma, a semicolon, a tab or |"
    else:
        fix = f"set {setting}"
    raise UserError(f"has no column {wanted!r} ({list_columns(columns)})", where=table, fix=fix)
