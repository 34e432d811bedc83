"""A folder of images and a CSV table that says which class each one is of."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from dpt_ray.core.labels import MAX_CLASS_ID
from dpt_ray.data import stores
from dpt_ray.data.importing.classes import ClassList, ids_of_names, is_number, sorted_names
from dpt_ray.data.importing.files import FileSet, hash_listing, label_files, sort_out
from dpt_ray.data.importing.keys import has_image_name, printable
from dpt_ray.data.importing.plan import Ignored
from dpt_ray.data.importing.tree import FileEntry, list_tree
from dpt_ray.data.skipped import Skipped
from dpt_ray.errors import UserError

FILE_COLUMN, LABEL_COLUMN = "file", "label"


class CsvTable(FileSet):
    """Image files that a table lists."""

    kind: ClassVar[str] = "csv"


@dataclass(frozen=True)
class Row:
    """A row of the table: its line, the file it names and its label, empty where it has none."""

    line: int
    file: str
    label: str


def describe_csv(
    location: str, table: str, file_column: str | None, label_column: str | None, known: ClassList | None
) -> CsvTable:
    """List the images that a table names. Labels that all are whole numbers are the class ids themselves.

    Args:
        location: URL of the folder that the table's file names start at.
        table: URL of the table.
        file_column: its column with file names; `file` by default.
        label_column: its column with labels, empty for unlabelled images; `label` by default.
        known: the list that class ids come from, if there is one.

    Raises:
        UserError: the table cannot be read, lacks a column or lists nothing, or a class that `known` lacks.
    """
    rows = read_rows(table, file_column or FILE_COLUMN, label_column or LABEL_COLUMN)
    tree = [entry for entry in list_tree(location) if entry["url"] != table]
    if not tree and not stores.exists(location):
        raise UserError("does not exist", where=location, fix=f"give the folder of the images that {table} lists")
    images, unusable, ignored = sort_out(tree)
    chosen, refused, repeated = _match(rows, images, unusable, table)
    named = {row.file for row in rows}
    ignored = [entry for entry in ignored if entry.name not in named]
    ignored += [Ignored(entry["name"], "not in the table") for entry in images if entry["name"] not in named]
    labels = [row.label for row, _ in chosen]
    ids, names = _ids(labels, known, table)
    entries = [entry for _, entry in chosen]
    return CsvTable(
        location,
        hash_listing(entries, labels, [entry.to_json() for entry in refused]),
        names,
        label_files(entries, [ids.get(label) for label in labels]),
        refused=tuple(refused),
        ignored=tuple(ignored + repeated),
    )


def read_rows(table: str, file_column: str, label_column: str) -> list[Row]:
    """Return the rows of a table of labels.

    Raises:
        UserError: not a CSV file, without one of the columns, or without rows.
    """
    try:
        text = stores.read_bytes(table).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), restval="", strict=True)
        columns = [column.strip() for column in reader.fieldnames or ()]
        for wanted, setting in ((file_column, "data.image_column"), (label_column, "data.label_column")):
            if wanted not in columns:
                listed = ", ".join(map(repr, columns)) or "none"
                raise UserError(f"has no column {wanted!r} (columns: {listed})", where=table, fix=f"set {setting}")
        reader.fieldnames = columns
        rows = [
            Row(reader.line_num, row[file_column].strip().removeprefix("./"), row[label_column].strip())
            for row in reader
        ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"is not a readable CSV table ({error})", where=table) from None
    if not rows:
        raise UserError("lists no images", where=table)
    return rows


def _match(
    rows: Sequence[Row], images: Sequence[FileEntry], unusable: Sequence[Skipped], table: str
) -> tuple[list[tuple[Row, FileEntry]], list[Skipped], list[Ignored]]:
    """Join rows with files; return the pairs, what is refused, and what is told besides."""
    files = {entry["name"]: entry for entry in images}
    first: dict[str, Row] = {}
    refused, repeated = list(unusable), []
    contradicted: set[str] = set()
    for row in rows:
        earlier = first.setdefault(row.file, row)
        if earlier is row:
            if row.file not in files:
                refused.append(Skipped(table, printable(row.file) or None, _why_absent(row)))
        elif earlier.label != row.label:
            contradicted.add(row.file)
        else:
            repeated.append(Ignored(printable(row.file), f"named again on line {row.line} of the table"))
    for name in sorted(contradicted & files.keys()):
        refused.append(Skipped(files[name]["url"], None, "has two labels in the table"))
    chosen = [(row, files[name]) for name, row in first.items() if name in files and name not in contradicted]
    return sorted(chosen, key=lambda pair: pair[0].file), refused, repeated


def _why_absent(row: Row) -> str:
    if not row.file:
        return f"line {row.line} names no file"
    if not has_image_name(row.file):
        return f"line {row.line} names a file that is no image by its name"
    return f"line {row.line} names a file that does not exist"


def _ids(labels: Sequence[str], known: ClassList | None, table: str) -> tuple[dict[str, int], tuple[str, ...] | None]:
    """Return the id of each label and the names of the classes; an empty label has no id."""
    found = {label for label in labels if label}
    if known is None and all(is_number(label.removeprefix("-")) for label in found):
        ids = {label: int(label) for label in found}
        for extreme in (min(ids.values(), default=0), max(ids.values(), default=0)):
            if not 0 <= extreme <= MAX_CLASS_ID:
                raise UserError(
                    f"has the class id {extreme}; class ids count from 0, to {MAX_CLASS_ID} at most",
                    where=table,
                    fix="leave the cells of unlabelled images empty, or set data.label_column to the classes' column",
                )
        return ids, None
    names = known.names if known else sorted_names(found)
    return ids_of_names(found, known, table), names
