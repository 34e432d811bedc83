"""Parquet tables with encoded images in a column, as the Hugging Face hub serves data sets."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from dpt_ray.core.labels import MAX_CLASS_ID
from dpt_ray.data import stores
from dpt_ray.data.importing.classes import ClassList, ids_of_declared, ids_of_names, sorted_names
from dpt_ray.data.importing.files import hash_listing, unread
from dpt_ray.data.importing.keys import escape_stem
from dpt_ray.data.importing.parquet_files import ENDING, list_parquet
from dpt_ray.data.importing.parquet_schema import BYTES, Columns, find_columns, is_name_type
from dpt_ray.data.importing.plan import ImageSet, RawImage, Recipe, ranges
from dpt_ray.data.skipped import Skipped
from dpt_ray.errors import UserError

_ROWS_TOGETHER = 64
"""Rows that a worker decodes at the same time; bounds its memory."""
_FOOTERS_TOGETHER = 8

Groups = list[int]
"""Rows of each row group of a file."""


@dataclass(frozen=True)
class ParquetTables(ImageSet):
    """The rows of some files."""

    kind: ClassVar[str] = "parquet"
    files: tuple[tuple[str, Groups], ...]
    """Name and row groups of each file."""
    columns: Columns
    ids: list[int] | dict[str, int] | None
    """Class id of each id or name in the label column; None if the column's ids stay as they are."""

    def reader_settings(self) -> dict[str, Any]:
        """Return what `read_parquet` needs."""
        return {
            "location": self.location,
            "image": self.columns.image,
            "label": self.columns.label,
            "ids": self.ids,
            "classes": len(self.class_names) if self.class_names else None,
        }

    def recipes(self, images_per_shard: int) -> list[Recipe]:
        """Return ranges of rows, none across two files, with the row groups that they touch."""
        return [
            {"images": stop - start, "file": name, "start": start, "stop": stop, **_touched(groups, start, stop)}
            for name, groups in self.files
            for start, stop in ranges(sum(groups), images_per_shard)
        ]


def _touched(groups: Groups, start: int, stop: int) -> dict[str, Any]:
    """Return the row groups that hold some of the rows [start, stop), and the first group's first row."""
    touched, first_row, row = [], 0, 0
    for number, rows in enumerate(groups):
        if row < stop and row + rows > start:
            if not touched:
                first_row = row
            touched.append(number)
        row += rows
    return {"groups": touched, "first_row": first_row}


def describe_parquet(
    location: str, image_column: str | None, label_column: str | None, known: ClassList | None
) -> ParquetTables:
    """Read the footers of the tables, and their labels if those are names.

    Raises:
        UserError: no readable table, no image column, or a class that `known` lacks.
    """
    folder, files = list_parquet(location)
    with ThreadPoolExecutor(_FOOTERS_TOGETHER) as pool:
        footers = list(pool.map(lambda file: _read_footer(file["url"]), files))
    readable = [
        (file, footer) for file, footer in zip(files, footers, strict=True) if isinstance(footer, pq.FileMetaData)
    ]
    rows = [footer.num_rows for _, footer in readable]
    refused = [
        Skipped(file["url"], None, footer, images=max(1, sum(rows) // max(1, len(rows))))
        for file, footer in zip(files, footers, strict=True)
        if isinstance(footer, str)
    ]
    if not readable:
        raise UserError(refused[0].reason, where=refused[0].where)
    schema = readable[0][1].schema.to_arrow_schema()
    columns = find_columns(schema, image_column, label_column, readable[0][0]["url"])
    ids, names = _classes(columns, schema, [file["url"] for file, _ in readable], known, location)
    return ParquetTables(
        folder,
        hash_listing(files),
        names,
        tuple((file["name"], _groups(footer)) for file, footer in readable),
        columns,
        ids,
        refused=tuple(refused),
    )


def _read_footer(url: str) -> pq.FileMetaData | str:
    """Return a file's metadata, or what is wrong with it."""
    try:
        with _open(url) as file:
            return pq.read_metadata(file)
    except (pa.ArrowException, OSError) as error:
        return _reason(error)


def _groups(footer: pq.FileMetaData) -> Groups:
    return [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]


def _classes(
    columns: Columns, schema: pa.Schema, urls: Sequence[str], known: ClassList | None, location: str
) -> tuple[list[int] | dict[str, int] | None, tuple[str, ...] | None]:
    if columns.label is None or not is_name_type(schema.field(columns.label).type):
        names = known.names if known else columns.label_names
        return ids_of_declared(columns.label_names, known, location), names
    found: set[str] = set()
    for url in urls:
        with _open(url) as file:
            found.update(pq.read_table(file, columns=[columns.label]).column(0).unique().to_pylist())
    labels = found - {None, ""}
    return ids_of_names(labels, known, location), known.names if known else sorted_names(labels)


def _open(url: str):
    filesystem, path = stores.filesystem(url)
    return filesystem.open(path, "rb")


def read_parquet(settings: dict[str, Any], recipe: Recipe) -> Iterator[RawImage | Skipped]:
    """Yield the images of a range of rows; what cannot be read of the file is listed as one entry."""
    url = stores.join(settings["location"], recipe["file"])
    row, stop = recipe["first_row"], recipe["stop"]
    columns = [settings["image"]] + ([settings["label"]] if settings["label"] else [])
    done = recipe["start"]
    try:
        with _open(url) as file:
            table = pq.ParquetFile(file)
            for batch in table.iter_batches(_ROWS_TOGETHER, row_groups=recipe["groups"], columns=columns):
                images = batch.column(settings["image"])
                labels = batch.column(settings["label"]) if settings["label"] else None
                for place in range(max(0, recipe["start"] - row), min(len(batch), stop - row)):
                    label = labels[place].as_py() if labels is not None else None
                    yield _raw_image(settings, url, recipe["file"], row + place, images[place].as_py(), label)
                    done += 1
                row += len(batch)
    except (pa.ArrowException, OSError, KeyError) as error:  # pyarrow tells damage by OSError, too
        yield unread(url, f"rows {done} to {stop - 1}: {_reason(error)}", stop - done)


def _raw_image(
    settings: dict[str, Any], url: str, name: str, row: int, image: Any, label: int | str | None
) -> RawImage | Skipped:
    key = f"{escape_stem(name[: -len(ENDING)])}-{row:05d}"
    path = None
    if isinstance(image, dict):
        path, image = image.get("path"), image[BYTES]
    if image is None:
        reason = f"has no bytes, only the path {path!r}, which is not followed" if path else "has no image"
        return Skipped(url, key, reason)
    ids, classes = settings["ids"], settings["classes"]
    if label in (None, "", -1):  # Hugging Face writes -1 where a test set hides its labels
        return RawImage(url, key, image, None)
    if isinstance(ids, dict):
        return RawImage(url, key, image, ids[label])
    known = len(ids) if ids else classes or MAX_CLASS_ID + 1
    if not 0 <= label < known:
        return Skipped(url, key, f"has the class id {label}; here they are 0 to {known - 1}")
    return RawImage(url, key, image, ids[label] if ids else label)


def _reason(error: Exception) -> str:
    return f"is not a readable Parquet file ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
