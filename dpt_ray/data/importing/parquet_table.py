"""Import Parquet tables with a column of encoded images, the form of data sets on the Hugging Face hub."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from typing import Any, ClassVar

import pyarrow as pa

from dpt_ray.core.class_ids import MAX_CLASS_ID
from dpt_ray.data.importing.classes import ClassList
from dpt_ray.data.importing.digits import Split
from dpt_ray.data.importing.image_files import hash_listing, unread
from dpt_ray.data.importing.import_plan import ImageSet, RawImage, Recipe, ranges
from dpt_ray.data.importing.parquet_file import Leaf, ParquetFile, image_leaf, open_parquet, rows_per_batch, text_leaf
from dpt_ray.data.importing.parquet_files import ENDING, list_parquet
from dpt_ray.data.importing.parquet_footer import DAMAGE, read_footers, unreadable
from dpt_ray.data.importing.parquet_labels import LabelMap, join_classes
from dpt_ray.data.importing.parquet_pages import ImplausibleFileError
from dpt_ray.data.importing.parquet_schema import BYTES, find_columns, label_kind
from dpt_ray.data.shards.keys import escape_stem
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.json_records import Record
from dpt_ray.json_values import JsonObject
from dpt_ray.text import printable

_BATCH_ROWS = 64
"""Maximum number of rows of a batch; fewer if they may be large."""
_UNCHECKED_BYTES = 256 << 20
"""Maximum decoded bytes of a row group whose ratio of decoded to stored bytes is not checked."""
_MAX_EXPANSION = 1000
"""Maximum ratio of decoded to stored bytes of a larger row group. Dictionary pages can repeat one image many times."""
_PATH = "path"

Groups = Sequence[int]
"""Number of rows of each row group of a file."""


@dataclass(frozen=True)
class TableForm(Record):
    """How to read a file.

    Attributes:
        image: column of images.
        label: column of labels; None without labels.
        ids: map of its labels to class ids.
    """

    image: str
    label: str | None
    ids: LabelMap


@dataclass(frozen=True)
class ReaderSettings(Record):
    """Settings of `read_parquet`.

    Attributes:
        location: URL of the folder.
        forms: the different forms of the files.
        classes: number of valid class ids in the files without a label map; None if it is unknown.
    """

    location: str
    forms: tuple[TableForm, ...]
    classes: int | None


@dataclass(frozen=True)
class TableRows(Record):
    """A recipe for consecutive rows of a file.

    Attributes:
        images: number of rows.
        file: name of the file below the location.
        form: index of its form in `ReaderSettings.forms`.
        start: index of the first row.
        stop: index of the row after the last one.
        groups: row groups that hold the rows.
        first_row: index of the first row of the first of these groups.
    """

    images: int
    file: str
    form: int
    start: int
    stop: int
    groups: tuple[int, ...]
    first_row: int


@dataclass(frozen=True)
class ParquetTables(ImageSet):
    """The rows of Parquet files.

    Attributes:
        files: name and row groups of each file, and the index of its form in `forms`.
        forms: the different forms of the files.
        classes: number of valid class ids in the files without a label map; None if it is unknown.
    """

    kind: ClassVar[str] = "parquet"
    files: tuple[tuple[str, Groups, int], ...]
    forms: list[TableForm]
    classes: int | None

    def reader_settings(self) -> JsonObject:
        """Return what `read_parquet` needs."""
        return ReaderSettings(self.location, tuple(self.forms), self.classes).to_json()

    def recipes(self, images_per_shard: int) -> list[Recipe]:
        """Return ranges of rows with the row groups that hold them. No range spans two files."""
        recipes: list[Recipe] = []
        for name, groups, form in self.files:
            ends = list(accumulate(groups))
            for start, stop in ranges(sum(groups), images_per_shard):
                touched, first_row = _touched(groups, ends, start, stop)
                rows = TableRows(stop - start, name, form, start, stop, touched, first_row)
                recipes.append(rows.to_json())
        return recipes


def _touched(groups: Groups, ends: list[int], start: int, stop: int) -> tuple[tuple[int, ...], int]:
    """Return the row groups that hold rows of [start, stop), and the index of the first group's first row.

    Args:
        groups: number of rows of each row group.
        ends: index of the row after each row group.
        start: index of the first row.
        stop: index of the row after the last one.
    """
    first, last = bisect_right(ends, start), bisect_left(ends, stop)
    touched = tuple(number for number in range(first, last + 1) if groups[number])
    return touched, ends[first] - groups[first]


def describe_parquet(
    location: str,
    image_column: str | None,
    label_column: str | None,
    known: ClassList | None,
    num_classes: int | None = None,
    split: Split = "train",
) -> ParquetTables:
    """Read the footers of the tables, and their labels if these are names, fractions or large numbers.

    Args:
        location: URL of a file, a folder or a pattern.
        image_column: column of images; None to find it by metadata and types.
        label_column: column of labels; None to find it by metadata and name.
        known: the classes in the order of their ids; None to derive them from the tables.
        num_classes: `data.num_classes`.
        split: split of the images.

    Raises:
        UserError: no table is readable, there is no image column, the files contradict each other, or `known` lacks a
            class.
    """
    folder, listed = list_parquet(location)
    tables, refused = read_footers(listed)
    columns = find_columns(tables, image_column, label_column)
    joined = join_classes(tables, columns, known, num_classes, split, location)
    forms: list[TableForm] = []
    files = []
    for table, found, ids in zip(tables, columns, joined.maps, strict=True):
        form = TableForm(found.image, found.label, ids)
        if form not in forms:
            forms.append(form)
        files.append((table.name, table.groups, forms.index(form)))
    return ParquetTables(
        folder,
        hash_listing(listed),
        joined.names,
        tuple(files),
        forms,
        joined.classes,
        refused=tuple(refused),
        notes=joined.notes,
    )


def read_parquet(settings: JsonObject, recipe: Recipe) -> Iterator[RawImage | Skipped]:
    """Yield the images of a range of rows, and one entry for the rows of the file that cannot be read."""
    reading, rows = ReaderSettings.from_json(settings), TableRows.from_json(recipe)
    url, form = stores.join(reading.location, rows.file), reading.forms[rows.form]
    stem = escape_stem(rows.file[: -len(ENDING)])
    row, done, stop = rows.first_row, rows.start, rows.stop
    try:
        with open_parquet(url) as file:
            for batch in _read_batches(file, rows.groups, form):
                images = batch.column(form.image)
                labels = batch.column(form.label) if form.label else None
                for place in range(max(0, done - row), min(len(batch), stop - row)):
                    key = f"{stem}-{row + place:05d}"
                    label = labels[place] if labels is not None else None
                    yield _read_row(url, key, images[place], label, form.ids, reading.classes)
                    done += 1
                row += len(batch)
                if row >= stop:
                    return
        wrong = "are not in the file, which claims them"
    except ImplausibleFileError as error:
        wrong = str(error)
    except (*DAMAGE, KeyError) as error:
        yield unread(url, f"rows {done} to {stop - 1}: {unreadable(error)}", stop - done)
        return
    yield Skipped(printable(url), None, f"rows {done} to {stop - 1}: {wrong}", stop - done)


def _read_batches(file: ParquetFile, groups: Sequence[int], form: TableForm) -> Iterator[pa.RecordBatch]:
    """Yield the rows of some row groups in batches of bounded memory.

    Raises:
        ImplausibleFileError: a page or a row group decodes to far more than its stored bytes.
    """
    leaves = _leaves(file.schema, form)
    for group in groups:
        chunks = file.load(group, leaves)
        size, decoded = sum(chunk.compressed for chunk in chunks), 0
        for batch in file.batches(group, leaves, rows_per_batch(chunks, _BATCH_ROWS)):
            decoded += batch.nbytes
            if decoded > max(_UNCHECKED_BYTES, _MAX_EXPANSION * size):
                raise ImplausibleFileError(
                    f"{size:,} bytes of a row group decode to more than {decoded >> 20:,} MiB; "
                    f"above {_UNCHECKED_BYTES >> 20} MiB, at most {_MAX_EXPANSION:,} times as much is read"
                )
            yield batch


def _leaves(schema: pa.Schema, form: TableForm) -> list[Leaf]:
    """Return the leaf columns to read. Of the struct of an image these are only its bytes and its path."""
    image, kind = form.image, schema.field(form.image).type
    leaves = [image_leaf(image)]
    if pa.types.is_struct(kind):
        leaves = [image_leaf(f"{image}.{BYTES}")]
        if any(field.name == _PATH and label_kind(field.type) == "names" for field in kind):
            leaves.append(text_leaf(f"{image}.{_PATH}"))
    return leaves + ([text_leaf(form.label)] if form.label else [])


def _read_row(
    url: str, key: str, image: pa.Scalar, label: pa.Scalar | None, ids: LabelMap, classes: int | None
) -> RawImage | Skipped:
    try:
        return _raw_image(url, key, image.as_py(), None if label is None else label.as_py(), ids, classes)
    except UnicodeDecodeError:
        return Skipped(printable(url), key, "has a label or a path that is not UTF-8 text")


def _raw_image(url: str, key: str, image: Any, label: Any, ids: LabelMap, classes: int | None) -> RawImage | Skipped:
    path = None
    if isinstance(image, dict):
        path, image = image.get("path"), image[BYTES]
    if image is None:
        reason = f"has no bytes, only the path {path!r}, which is not followed" if path else "has no image"
        return Skipped(url, key, reason)
    try:
        return RawImage(url, key, image, _class_id(label, ids, classes))
    except ValueError as error:
        return Skipped(url, key, str(error))


def _class_id(label: Any, ids: LabelMap, classes: int | None) -> int | None:
    """Return the class id of a label; None if the image is unlabelled.

    Raises:
        ValueError: the label is not a class id.
    """
    if label is None or label != label:  # NaN, as pandas writes a missing number, differs from itself
        return None
    if isinstance(ids, dict):
        if label not in ids:
            raise ValueError(f"has the label {label!r}, which it did not have when the labels were read")
        return ids[label]
    if isinstance(label, float | Decimal) and label != label // 1:
        raise ValueError(f"has the class id {label}, which is no whole number")
    number = int(label)
    if number == -1:  # Hugging Face writes -1 where a test set hides its labels
        return None
    known = len(ids) if ids is not None else classes or MAX_CLASS_ID + 1
    if not 0 <= number < known:
        raise ValueError(f"has the class id {number}; here they are 0 to {known - 1}")
    return ids[number] if ids is not None else number
