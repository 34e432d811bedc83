"""CIFAR-10's binary version: each record has a label byte and 3 x 32 x 32 pixel bytes, channel by channel (RGB).

Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dpt_ray.data.importing.classes import ClassList, ids_of_declared
from dpt_ray.data.importing.image_files import hash_listing, unread
from dpt_ray.data.importing.import_plan import Ignored, ImageSet, RawImage, Recipe, ranges
from dpt_ray.data.importing.litter import why_passed_over
from dpt_ray.data.importing.other_formats import FIRST_BYTES, recognise
from dpt_ray.data.importing.tree import BROKEN, FileEntry, list_files
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.json_records import Record
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.text import printable

BATCHES = {"train": "data_batch_[1-5].bin", "test": "test_batch.bin"}
NAMES_FILE = "batches.meta.txt"
CLASSES, SIZE, CHANNELS = 10, 32, 3
RECORD = 1 + CHANNELS * SIZE * SIZE
"""Bytes of a record: the label and the pixels."""


@dataclass(frozen=True)
class _RecordRange(Record):
    """A recipe for `images` records of a file: [start, stop)."""

    images: int
    file: str
    start: int
    stop: int


@dataclass(frozen=True)
class _Settings(Record):
    """Settings of the reader: the URL of the folder, and the class id of each label byte."""

    location: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Cifar10(ImageSet):
    """The records of one split's batch files."""

    kind: ClassVar[str] = "cifar10"
    batches: tuple[tuple[str, int], ...]
    """Name and number of whole records of each file."""
    ids: list[int] | None
    """Class id of each label byte; None if the label bytes are the class ids."""

    def reader_settings(self) -> JsonObject:
        """Return what `read_cifar10` needs."""
        return _Settings(self.location, tuple(self.ids or range(CLASSES))).to_json()

    def recipes(self, images_per_shard: int) -> list[Recipe]:
        """Return ranges of records. No range spans two files."""
        return [
            _RecordRange(stop - start, name, start, stop).to_json()
            for name, records in self.batches
            for start, stop in ranges(records, images_per_shard)
        ]


def is_cifar10(name: str) -> bool:
    """Whether a file has the name of a binary batch."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in BATCHES.values())


def refuse_pickled(location: str, names: set[str]) -> None:
    """Refuse the Python version of CIFAR-10, which consists of pickles.

    Raises:
        UserError: the file names are those of the Python version.
    """
    if "batches.meta" in names and names & {"data_batch_1", "test_batch"}:
        raise UserError(
            "holds the Python version of CIFAR-10, which consists of pickles; a pickle can run any code when it is "
            "read, so none is read here",
            where=location,
            fix="get cifar-10-binary.tar.gz, the binary version, from the same page",
        )


def describe_cifar10(location: str, split: str, known: ClassList | None) -> Cifar10:
    """List the batches of a split.

    Args:
        location: URL of the folder of the batches, which may hold both splits.
        split: `train` or `test`.
        known: the classes in the order of their ids; None to take the order of `batches.meta.txt`.

    Raises:
        UserError: there is no batch, a batch cannot be opened, or `known` lacks a class.
    """
    files = list_files(location)
    refuse_pickled(location, {file["name"] for file in files})
    batches = [file for file in files if fnmatch.fnmatchcase(file["name"], BATCHES[split])]
    for batch in batches:
        if batch.get("broken") or "special" in batch:
            raise UserError(BROKEN if batch.get("broken") else f"is {batch['special']}", where=batch["url"])
    if not batches:
        raise UserError(f"holds no {BATCHES[split]} of CIFAR-10's binary version", where=location)
    declared = _class_names(location, files)
    return Cifar10(
        location,
        hash_listing(batches),
        known.names if known else declared,
        tuple((batch["name"], _size(batch) // RECORD) for batch in batches),
        ids_of_declared(declared, known, location),
        refused=tuple(Skipped(batch["url"], None, _why_cut(batch)) for batch in batches if _size(batch) % RECORD),
        ignored=tuple(
            Ignored(printable(file["name"]), why_passed_over(file["name"]) or "not a batch of CIFAR-10 by its name")
            for file in files
            if not is_cifar10(file["name"]) and file["name"] != NAMES_FILE
        ),
    )


def _size(batch: FileEntry) -> int:
    """Return the bytes of a batch.

    Raises:
        UserError: the store does not report them.
    """
    if batch["size"] is None:
        raise UserError("has no size in the listing of its store", where=batch["url"], fix="copy it to another store")
    return batch["size"]


def _why_cut(batch: FileEntry) -> str:
    """Return why a batch does not consist of whole records."""
    if found := recognise(stores.read_range(batch["url"], 0, FIRST_BYTES)):
        return f"is not a batch of CIFAR-10 but {found[0]}; {found[1]}"
    return f"ends within record {_size(batch) // RECORD}"


def _class_names(location: str, files: list[FileEntry]) -> tuple[str, ...] | None:
    if NAMES_FILE not in {file["name"] for file in files}:
        return None
    url = stores.join(location, NAMES_FILE)
    names = tuple(stores.read_bytes(url).decode(errors="replace").split())
    if len(set(names)) != CLASSES:
        raise UserError(f"must name {CLASSES} classes, one a line", where=url, fix="restore it, or remove it")
    return names


def read_cifar10(settings: JsonObject, recipe: Recipe) -> Iterator[RawImage | Skipped]:
    """Yield the images of a range of records, uint8 (3, 32, 32), in the order of the file."""
    form, rows = _Settings.from_json(settings), _RecordRange.from_json(recipe)
    name, start, stop = rows.file, rows.start, rows.stop
    url = stores.join(form.location, name)
    try:
        data = stores.read_range(url, start * RECORD, stop * RECORD)
    except UserError as error:
        yield unread(url, f"records {start} to {stop - 1}: {error.what}", stop - start)
        return
    whole = len(data) // RECORD
    if whole < stop - start:
        yield unread(url, f"became shorter: ends before record {stop - 1}", stop - start - whole)
    records = np.frombuffer(data, np.uint8, whole * RECORD).reshape(whole, RECORD)
    for number, record in enumerate(records, start=start):
        key, label = f"{name.removesuffix('.bin')}-{number:05d}", int(record[0])
        if label >= CLASSES:
            yield Skipped(url, key, f"has the label {label}; CIFAR-10 has 0 to {CLASSES - 1}")
        else:
            yield RawImage(url, key, record[1:].reshape(CHANNELS, SIZE, SIZE), form.ids[label])
