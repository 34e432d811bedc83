"""Join the class ids of Parquet files, each of which may number or name its classes in its own way."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dpt_ray.data.importing.classes import (
    PLAUSIBLE_IDS,
    ClassList,
    check_ids,
    ids_of_declared,
    ids_of_names,
    sorted_names,
)
from dpt_ray.data.importing.column_names import list_columns
from dpt_ray.data.importing.digits import Split
from dpt_ray.data.importing.parquet_footer import Table, count_values, largest_values
from dpt_ray.data.importing.parquet_schema import LABEL_COLUMN, Columns, short_type
from dpt_ray.data.importing.written_labels import read_labels, say_missing
from dpt_ray.errors import UserError

_LARGEST_WHOLE = 2**53
"""Largest number up to which a float64 represents every whole number."""

LabelMap = list[int] | dict[str, int | None] | None
"""Maps the ids or texts of a file's label column to class ids; None if the column holds the class ids.

A text that maps to None is a missing value.
"""


class JoinedClasses(NamedTuple):
    """The classes of all files.

    Attributes:
        maps: the label map of each file.
        names: class names in the order of their ids; None if neither the settings nor the files name the classes.
        classes: number of valid class ids in the files without a map; None if it is unknown.
        notes: remarks on the labels for the user, one sentence each.
    """

    maps: list[LabelMap]
    names: tuple[str, ...] | None
    classes: int | None
    notes: tuple[str, ...]


class _File(NamedTuple):
    """A file, its columns, and the number of rows of each label, if its labels are read beforehand."""

    table: Table
    columns: Columns
    values: Counter[Any]


@dataclass(frozen=True)
class _Files:
    """The files by the kind of their labels, in the order of the data set.

    Attributes:
        declared: labels are numbers that the file's metadata names.
        numbered: labels are numbers without names.
        named: labels are texts.
        unlabelled: no labels.
    """

    declared: list[_File]
    numbered: list[_File]
    named: list[_File]
    unlabelled: list[_File]

    @property
    def longest(self) -> _File:
        """The file whose metadata has the most names."""
        return max(self.declared, key=lambda file: len(file.columns.label_names or ()))


def join_classes(
    tables: Sequence[Table],
    columns: Sequence[Columns],
    known: ClassList | None,
    num_classes: int | None,
    split: Split,
    location: str,
) -> JoinedClasses:
    """Join the classes of all files by name.

    Without a list of classes, the ids are those of the first file whose metadata names them. Further names of other
    files follow in the order of the files. So a data set whose files agree keeps the ids of its metadata, and another
    file changes none of them. If all labels are texts, the ids are the positions of the sorted names.

    Args:
        tables: the files.
        columns: the columns of each file.
        known: the classes in the order of their ids, if the user or the training data lists them.
        num_classes: `data.num_classes`.
        split: split of the images. If nothing states the number of classes, the ids of the training images do.
        location: URL of the files, for messages.

    Raises:
        UserError: the labels of two files cannot be joined, labels are not class ids, or `known` lacks a class.
    """
    files = _sort(tables, columns)
    _check_kinds(files, known)
    texts, meanings = _read_texts(files.named, known, location)
    names = known.names if known else _join_names(files, meanings)
    order = known or (ClassList(names, location) if names is not None else None)
    maps: dict[str, LabelMap] = {}
    for file in files.declared:
        maps[file.table.url] = ids_of_declared(file.columns.label_names, order, file.table.url)
    for file in files.numbered:
        maps[file.table.url] = maps[files.longest.table.url] if files.declared else None
    if files.named:
        ids = ids_of_names((text for text in meanings.values() if text is not None), order, location)
        text_map = {label: None if text is None else ids[text] for label, text in meanings.items()}
        maps.update({file.table.url: text_map for file in files.named})
    if names is None and (num_classes is not None or split == "train"):
        check_ids(_numbers(files.numbered, num_classes), num_classes, location)
    return JoinedClasses(
        [maps.get(table.url) for table in tables],
        names,
        len(names) if names is not None else num_classes,
        (*_say_unlabelled(files), *_say_numbered(files, known), *_say_missing(files, texts, meanings, location)),
    )


def _sort(tables: Sequence[Table], columns: Sequence[Columns]) -> _Files:
    """Divide the files by the kind of their labels; read the labels that are texts or may be fractions."""
    files = _Files([], [], [], [])
    for table, found in zip(tables, columns, strict=True):
        if found.label is None or found.kind == "nothing":
            if table.rows:
                files.unlabelled.append(_File(table, found, Counter()))
            continue
        is_read = found.kind in ("names", "fractions")
        file = _File(table, found, count_values(table, found.label) if is_read else Counter())
        if found.kind == "names":
            files.named.append(file)
            continue
        _check_whole(file)
        (files.declared if found.label_names is not None else files.numbered).append(file)
    return files


def _check_whole(file: _File) -> None:
    """Refuse labels that are not whole numbers."""
    for value in file.values:
        if value is not None and (abs(value) > _LARGEST_WHOLE or value != int(value)):
            raise UserError(
                f"its column {file.columns.label!r} holds neither class ids nor names but {_type(file)}: "
                f"{value:g} is no whole number",
                where=file.table.url,
                fix="set data.label_column to the classes' column",
            )


def _check_kinds(files: _Files, known: ClassList | None) -> None:
    """Refuse files whose labels cannot be joined.

    Raises:
        UserError: some files number their classes and others name them, with no names to join them by.
    """
    if files.named and files.numbered and not files.declared and not (known and known.from_user):
        named, numbered = files.named[0], files.numbered[0]
        raise UserError(
            f"its column {numbered.columns.label!r} holds class ids without names ({_type(numbered)}), "
            f"that of {named.table.url} names ({_type(named)})",
            where=numbered.table.url,
            fix="give all files the same kind of labels, or list the classes in data.class_file",
        )
    if files.numbered and files.declared:
        names = files.longest.columns.label_names or ()
        for file in files.declared:
            own = file.columns.label_names or ()
            if own != names[: len(own)]:
                raise UserError(
                    f"its column {files.numbered[0].columns.label!r} holds class ids without names, and "
                    f"{files.longest.table.url} and {file.table.url} give their ids different names",
                    where=files.numbered[0].table.url,
                    fix="write the names of the classes into the metadata of every file",
                )


def _read_texts(
    named: Sequence[_File], known: ClassList | None, location: str
) -> tuple[Counter[str | None], dict[str, str | None]]:
    """Return the number of rows of each text, and the meaning of each text; see `read_labels`."""
    texts: Counter[str | None] = Counter()
    for file in named:
        texts.update(file.values)
    return texts, read_labels((text for text in texts if text is not None), known, location)


def _join_names(files: _Files, meanings: dict[str, str | None]) -> tuple[str, ...] | None:
    """Return all class names in the order of their ids; None if no file names its classes."""
    names = dict.fromkeys(name for file in files.declared for name in file.columns.label_names or ())
    texts = {text for text in meanings.values() if text is not None}
    return (*names, *sorted_names(texts - names.keys())) or None


def _numbers(numbered: Sequence[_File], num_classes: int | None) -> set[int]:
    """Return the class ids that occur, or only the largest of each file if that suffices for `check_ids`.

    The statistics in the footers state the largest id. The columns are read if they do not, or if it is large.
    """
    values: set[Any] = {value for file in numbered for value in file.values}
    unread = [file for file in numbered if not file.values]
    largest = largest_values([file.table for file in unread], [str(file.columns.label) for file in unread])
    stated = [value for value in largest if value is not None]
    if len(stated) == len(unread) and max(stated, default=-1) < (num_classes or PLAUSIBLE_IDS):
        values |= set(stated)
    else:
        values |= {value for file in unread for value in count_values(file.table, str(file.columns.label))}
    return {int(value) for value in values if value is not None and value >= 0}


def _say_unlabelled(files: _Files) -> tuple[str, ...]:
    """Return the note on files without labels."""
    if not files.unlabelled:
        return ()
    images = sum(file.table.rows for file in files.unlabelled)
    labelled = [*files.declared, *files.numbered, *files.named]
    column = next((file.columns.label for file in [*labelled, *files.unlabelled] if file.columns.label), LABEL_COLUMN)
    note = f"{images:,} images of {_list(files.unlabelled)} are unlabelled: the column {column!r} is absent or empty"
    if not labelled:
        note += f" ({list_columns(files.unlabelled[0].table.schema.names)}; data.label_column names it)"
    return (note,)


def _say_numbered(files: _Files, known: ClassList | None) -> tuple[str, ...]:
    """Return the note on class ids without names that are read as ids of another file or of the training data."""
    if not files.numbered or not (files.declared or (known and not known.from_user)):
        return ()
    whose = files.longest.table.name if files.declared or known is None else known.origin
    return (f"the class ids of {_list(files.numbered)} have no names; they are read as ids of {whose}",)


def _say_missing(
    files: _Files, texts: Counter[str | None], meanings: dict[str, str | None], location: str
) -> tuple[str, ...]:
    """Return the note on labels that are missing values."""
    counts: Counter[str] = Counter()
    for label, count in texts.items():
        if label is None or meanings[label] is None:
            counts[label or ""] += count
    return say_missing(counts, sum(file.table.rows for file in files.named), location)


def _list(files: Sequence[_File]) -> str:
    first, more = files[0].table.name, len(files) - 1
    return first + (f" and {more:,} more files" if more > 1 else " and 1 more file" if more else "")


def _type(file: _File) -> str:
    return short_type(file.table.schema.field(file.columns.label).type)
