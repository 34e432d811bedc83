"""Class ids over Parquet files that number or name their classes each in its own way."""

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
"""Above, a float does not hold every whole number."""

LabelMap = list[int] | dict[str, int | None] | None
"""Class id of each id or text in a file's column of labels; None if the column's ids stay as they are.

A text without an id is a missing value.
"""


class JoinedClasses(NamedTuple):
    """The classes of all files.

    Attributes:
        maps: the label map of each file.
        names: names in the order of class ids; None if nobody names the classes.
        classes: number of the ids that are valid where a map is None; None if nobody says so.
        notes: what people should know about the labels.
    """

    maps: list[LabelMap]
    names: tuple[str, ...] | None
    classes: int | None
    notes: tuple[str, ...]


class _File(NamedTuple):
    """A file, where its labels are, and how many rows have each label, where that is known."""

    table: Table
    columns: Columns
    values: Counter[Any]


@dataclass(frozen=True)
class _Files:
    """The files by what their labels are, each in the order of the data set."""

    declared: list[_File]
    """Numbers, with names in the file's metadata."""
    numbered: list[_File]
    """Numbers without names."""
    named: list[_File]
    """Text."""
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

    Without a list of classes, the ids are those of the first file that names its numbers; names that other files add
    follow in the order of the files. So a data set whose files agree keeps the ids that its metadata gives, and one
    file more changes none of them. Where all labels are text, the sorted names give the ids.

    Args:
        tables: the files.
        columns: where the labels of each file are, and what they are.
        known: the list that class ids come from, if there is one.
        num_classes: `data.num_classes`.
        split: what the images are for. Where nothing says how many classes exist, the training ids do.
        location: URL of the files, for messages.

    Raises:
        UserError: files whose labels cannot be brought together, labels that are no class ids, or classes that
            `known` lacks.
    """
    files = _sort(tables, columns)
    _check_kinds(files, known)
    texts, said = _read_texts(files.named, known, location)
    names = known.names if known else _join_names(files, said)
    order = known or (ClassList(names, location) if names is not None else None)
    maps: dict[str, LabelMap] = {}
    for file in files.declared:
        maps[file.table.url] = ids_of_declared(file.columns.label_names, order, file.table.url)
    for file in files.numbered:
        maps[file.table.url] = maps[files.longest.table.url] if files.declared else None
    if files.named:
        ids = ids_of_names((text for text in said.values() if text is not None), order, location)
        text_map = {label: None if text is None else ids[text] for label, text in said.items()}
        maps.update({file.table.url: text_map for file in files.named})
    if names is None and (num_classes is not None or split == "train"):
        check_ids(_numbers(files.numbered, num_classes), num_classes, location)
    return JoinedClasses(
        [maps.get(table.url) for table in tables],
        names,
        len(names) if names is not None else num_classes,
        (*_say_unlabelled(files), *_say_numbered(files, known), *_say_missing(files, texts, said, location)),
    )


def _sort(tables: Sequence[Table], columns: Sequence[Columns]) -> _Files:
    """Divide the files by what their labels are; read those that must be known beforehand."""
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
    """Refuse fractions as class ids."""
    for value in file.values:
        if value is not None and (abs(value) > _LARGEST_WHOLE or value != int(value)):
            raise UserError(
                f"its column {file.columns.label!r} holds neither class ids nor names but {_type(file)}: "
                f"{value:g} is no whole number",
                where=file.table.url,
                fix="set data.label_column to the classes' column",
            )


def _check_kinds(files: _Files, known: ClassList | None) -> None:
    """Refuse files whose labels have nothing in common.

    Raises:
        UserError: naming two of them and the column.
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
    """Return how many rows have each text, and what each text says; see `read_labels`."""
    texts: Counter[str | None] = Counter()
    for file in named:
        texts.update(file.values)
    return texts, read_labels((text for text in texts if text is not None), known, location)


def _join_names(files: _Files, said: dict[str, str | None]) -> tuple[str, ...] | None:
    """Return all names in the order of their ids; None if there are none."""
    names = dict.fromkeys(name for file in files.declared for name in file.columns.label_names or ())
    texts = {text for text in said.values() if text is not None}
    return (*names, *sorted_names(texts - names.keys())) or None


def _numbers(numbered: Sequence[_File], num_classes: int | None) -> set[int]:
    """Return the class ids that occur, or the largest alone where that is enough for a check of them.

    The files' statistics give the largest one; otherwise the columns are read.
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
    """Return the note on class ids that are taken for another file's, or for the training data's."""
    if not files.numbered or not (files.declared or (known and not known.from_user)):
        return ()
    whose = files.longest.table.name if files.declared or known is None else known.origin
    return (f"the class ids of {_list(files.numbered)} have no names; they are read as ids of {whose}",)


def _say_missing(
    files: _Files, texts: Counter[str | None], said: dict[str, str | None], location: str
) -> tuple[str, ...]:
    """Return the note on labels that are missing values."""
    counts: Counter[str] = Counter()
    for label, count in texts.items():
        if label is None or said[label] is None:
            counts[label or ""] += count
    return say_missing(counts, sum(file.table.rows for file in files.named), location)


def _list(files: Sequence[_File]) -> str:
    first, more = files[0].table.name, len(files) - 1
    return first + (f" and {more:,} more files" if more > 1 else " and 1 more file" if more else "")


def _type(file: _File) -> str:
    return short_type(file.table.schema.field(file.columns.label).type)
