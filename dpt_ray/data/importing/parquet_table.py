"""Parquet tables with encoded images in a column, as the Hugging Face hub serves data sets."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from dpt_ray.core.class_ids import MAX_CLASS_ID
from dpt_ray.data.importing.classes import ClassList
from dpt_ray.data.importing.digits import Split
from dpt_ray.data.importing.files import hash_listing, unread
from dpt_ray.data.importing.import_plan import ImageSet, RawImage, Recipe, ranges
from dpt_ray.data.importing.parquet_files import ENDING, list_parquet
from dpt_ray.data.importing.parquet_footer import open_file, read_footers, unreadable
from dpt_ray.data.importing.parquet_labels import LabelMap, join_classes
from dpt_ray.data.importing.parquet_schema import BYTES, find_columns
from dpt_ray.data.shards.keys import escape_stem
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores

_ROWS_TOGETHER = 64
"""Rows that a worker decodes at the same time; bounds its memory."""

Groups = list[int]
"""Rows of each row group of a file."""


@dataclass(frozen=True)
class ParquetTables(ImageSet):
    """The rows of some files."""

    kind: ClassVar[str] = "parquet"
    files: tuple[tuple[str, Groups, int], ...]
    """Name and row groups of each file, and the place of its form in `forms`."""
    forms: list[dict[str, Any]]
    """How to read a file: the columns `image` and `label`, and under `ids` its label map."""
    classes: int | None
    """Number of the class ids that are valid where a label map is None; None if nobody says so."""

    def reader_settings(self) -> dict[str, Any]:
        """Return what `read_parquet` needs."""
        return {"location": self.location, "forms": self.forms, "classes": self.classes}

    def recipes(self, images_per_shard: int) -> list[Recipe]:
        """Return ranges of rows, none across two files, with the row groups that they touch."""
        return [
            {
                "images": stop - start,
                "file": name,
                "form": form,
                "start": start,
                "stop": stop,
                **_touched(groups, start, stop),
            }
            for name, groups, form in self.files
            for start, stop in ranges(sum(groups), images_per_shard)
        ]


def _touched(groups: Groups, start: int, stop: int) -> dict[str, Any]:
    """Return the row groups that hold some of the rows [start, stop), and the first group's first row."""
    touched: list[int] = []
    first_row, row = 0, 0
    for number, rows in enumerate(groups):
        if row < stop and row + rows > start:
            if not touched:
                first_row = row
            touched.append(number)
        row += rows
    return {"groups": touched, "first_row": first_row}


def describe_parquet(
    location: str,
    image_column: str | None,
    label_column: str | None,
    known: ClassList | None,
    num_classes: int | None = None,
    split: Split = "train",
) -> ParquetTables:
    """Read the footers of the tables, and their labels where these are names, fractions or large numbers.

    Args:
        location: URL of a file, a folder or a pattern.
        image_column: column of images; found if not given.
        label_column: column of labels; found if not given.
        known: the list that class ids come from, if there is one.
        num_classes: `data.num_classes`.
        split: what the images are for.

    Raises:
        UserError: no readable table, no image column, files that contradict each other, or a class that `known` lacks.
    """
    folder, listed = list_parquet(location)
    tables, refused = read_footers(listed)
    columns = find_columns(tables, image_column, label_column)
    joined = join_classes(tables, columns, known, num_classes, split, location)
    forms: list[dict[str, Any]] = []
    files = []
    for table, found, ids in zip(tables, columns, joined.maps, strict=True):
        form = {"image": found.image, "label": found.label, "ids": ids}
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


def read_parquet(settings: dict[str, Any], recipe: Recipe) -> Iterator[RawImage | Skipped]:
    """Yield the images of a range of rows; what cannot be read of the file is listed as one entry."""
    url = stores.join(settings["location"], recipe["file"])
    row, stop = recipe["first_row"], recipe["stop"]
    form = settings["forms"][recipe["form"]]
    columns = [form["image"]] + ([form["label"]] if form["label"] else [])
    done = recipe["start"]
    try:
        with open_file(url) as file:
            table = pq.ParquetFile(file)
            for batch in table.iter_batches(_ROWS_TOGETHER, row_groups=recipe["groups"], columns=columns):
                images = batch.column(form["image"])
                labels = batch.column(form["label"]) if form["label"] else None
                for place in range(max(0, recipe["start"] - row), min(len(batch), stop - row)):
                    key = f"{escape_stem(recipe['file'][: -len(ENDING)])}-{row + place:05d}"
                    label = labels[place].as_py() if labels is not None else None
                    yield _raw_image(url, key, images[place].as_py(), label, form["ids"], settings["classes"])
                    done += 1
                row += len(batch)
    except (pa.ArrowException, OSError, KeyError) as error:  # pyarrow raises OSError for damage, too
        yield unread(url, f"rows {done} to {stop - 1}: {unreadable(error)}", stop - done)


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
    """Return the class id of a label; None if the image has none.

    Raises:
        ValueError: it is no class id.
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
