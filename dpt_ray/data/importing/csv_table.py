"""Read a folder of images whose labels are in a CSV table."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from dpt_ray.core.class_ids import MAX_CLASS_ID
from dpt_ray.data.importing.classes import ClassList, check_ids, ids_of_names, is_number, sorted_names
from dpt_ray.data.importing.csv_rows import Row, read_rows
from dpt_ray.data.importing.digits import Split
from dpt_ray.data.importing.file_entries import FileEntries
from dpt_ray.data.importing.image_files import FileSet, hash_listing, sort_out
from dpt_ray.data.importing.import_plan import Ignored
from dpt_ray.data.importing.labelled_files import LabelledFiles
from dpt_ray.data.importing.path_hints import why_none_fits
from dpt_ray.data.importing.tree import FileEntry, list_tree
from dpt_ray.data.importing.written_labels import read_labels, say_missing
from dpt_ray.data.shards.keys import has_image_name, normalise_name
from dpt_ray.data.shards.listed_paths import ListedPaths
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.text import printable, shortened

FILE_COLUMN, LABEL_COLUMN = "file", "label"


class CsvTable(FileSet):
    """Image files that a table lists."""

    kind: ClassVar[str] = "csv"


def describe_csv(
    location: str,
    table: str,
    file_column: str | None,
    label_column: str | None,
    known: ClassList | None,
    num_classes: int | None = None,
    split: Split = "train",
    unlisted: bool = False,
) -> CsvTable:
    """List the images that a table names. If all labels are whole numbers, they are the class ids.

    Args:
        location: URL of the folder to which the table's file names are relative.
        table: URL of the table.
        file_column: column with file names; `file` if None.
        label_column: column with labels, empty for unlabelled images; `label` if None.
        known: the classes in the order of their ids; None to derive them from the labels.
        num_classes: `data.num_classes`.
        split: split of the images. If nothing states the number of classes, the ids of the training images do.
        unlisted: whether images that the table does not list are unlabelled images; otherwise they are ignored.

    Raises:
        UserError: the table cannot be read, lacks a column or lists nothing; no file name matches a file; the class
            ids are implausible; or `known` lacks a class.
    """
    rows = read_rows(table, file_column or FILE_COLUMN, label_column or LABEL_COLUMN)
    tree = list_tree(location)
    tree = tree.named(lambda name: stores.join(location, name) != table)
    if not tree and not stores.exists(location):
        raise UserError("does not exist", where=location, fix=f"give the folder of the images that {table} lists")
    images, unusable, ignored = sort_out(tree)
    found = _find_files(rows, images, location, table)
    meanings = read_labels((row.label for row, entry in found if entry is not None), known, table)
    joined = _join(found, meanings, table)
    named = {entry["name"] for _, entry in found if entry is not None} | {row.file for row in rows}
    ignored = [entry for entry in ignored if entry.name not in named]
    others = [entry for entry in images if entry["name"] not in named]
    if not unlisted:
        ignored += [Ignored(entry["name"], "not in the table") for entry in others]
        others = []
    ids, names = _ids(meanings, joined.chosen, known, table)
    if names is None and (num_classes is not None or split == "train"):
        check_ids(set(ids.values()), num_classes, table)
    entries = [entry for _, entry in joined.chosen]
    labels = [row.label for row, _ in joined.chosen]
    known_ids = [None if (text := meanings[label]) is None else ids.get(text) for label in labels]
    refused = [*unusable, *joined.refused]
    return CsvTable(
        location,
        hash_listing([*entries, *others], labels, [entry.to_json() for entry in refused]),
        names,
        LabelledFiles(_listed(location, [*entries, *others]), [*known_ids, *(None for _ in others)]),
        refused=tuple(refused),
        ignored=tuple(ignored + joined.repeated),
        notes=say_missing(Counter(label for label in labels if meanings[label] is None), len(labels), table),
    )


def _listed(location: str, entries: Iterable[FileEntry]) -> FileEntries:
    listed = FileEntries(location)
    for entry in entries:
        listed.append(entry)
    return listed


FoundRow = tuple[Row, FileEntry | None]
"""A row and the file that it names; None if no image below the folder has that name."""


def _find_files(rows: Sequence[Row], images: Sequence[FileEntry], location: str, table: str) -> list[FoundRow]:
    """Find the file that each row names.

    Raises:
        UserError: no row names a file below the folder, and `why_none_fits` finds the cause.
    """
    files = {entry["name"]: entry for entry in images}
    composed = Counter(map(normalise_name, files))
    files |= {form: entry for name, entry in files.items() if composed[form := normalise_name(name)] == 1}
    paths = ListedPaths(location, files)
    found: list[FoundRow] = []
    for row in rows:
        entry = files.get(row.file)
        if entry is None and row.file:
            entry = next((files[name] for name in paths.below(row.file) if name in files), None)
        found.append((row, entry))
    if not any(entry for _, entry in found) and files:
        listed = [row.file for row in rows if row.file]
        if listed and (why := why_none_fits(listed, files, location)):
            raise UserError(why.what, where=table, fix=why.fix)
    return found


@dataclass(frozen=True)
class _Joined:
    """The rows of a table, each matched to its file.

    Attributes:
        chosen: rows with their files, sorted by file name.
        refused: rows without a file, and files with two labels.
        repeated: rows that repeat the file and label of an earlier row.
    """

    chosen: list[tuple[Row, FileEntry]]
    refused: list[Skipped]
    repeated: list[Ignored]


def _join(found: Sequence[FoundRow], meanings: dict[str, str | None], table: str) -> _Joined:
    """Match each file to its row."""
    first: dict[str, tuple[Row, FileEntry]] = {}
    absent: dict[str, Row] = {}
    refused, repeated = [], []
    contradicted: dict[str, FileEntry] = {}
    for row, entry in found:
        if entry is None:
            earlier = absent.setdefault(row.file, row)
            if earlier is row:
                refused.append(Skipped(table, printable(row.file) or None, _why_absent(row)))
        else:
            earlier, _ = first.setdefault(entry["name"], (row, entry))
            if meanings[earlier.label] != meanings[row.label]:
                contradicted[entry["name"]] = entry
                continue
        if earlier is not row:
            repeated.append(Ignored(shortened(printable(row.file)), f"named again on line {row.line} of the table"))
    refused += [
        Skipped(contradicted[name]["url"], None, "has two labels in the table") for name in sorted(contradicted)
    ]
    chosen = [pair for name, pair in sorted(first.items()) if name not in contradicted]
    return _Joined(chosen, refused, repeated)


def _why_absent(row: Row) -> str:
    if not row.file:
        return f"line {row.line} names no file"
    if not has_image_name(row.file):
        return f"line {row.line} names a file that is no image by its name"
    return f"line {row.line} names a file that does not exist"


def _ids(
    meanings: dict[str, str | None], chosen: Sequence[tuple[Row, FileEntry]], known: ClassList | None, table: str
) -> tuple[dict[str, int], tuple[str, ...] | None]:
    """Return the id of each class that occurs, and the class names; None if the labels are class ids."""
    found = {text for row, _ in chosen if (text := meanings[row.label]) is not None}
    if known is None and all(map(is_number, found)):
        ids = {text: int(text) for text in found}
        largest = max(ids.values(), default=0)
        if largest > MAX_CLASS_ID:
            raise UserError(
                f"has the class id {largest}; class ids count from 0, to {MAX_CLASS_ID} at most",
                where=table,
                fix="list every class in data.class_file, or set data.label_column to the classes' column",
            )
        return ids, None
    names = known.names if known else sorted_names(found)
    return ids_of_names(found, known, table), names
