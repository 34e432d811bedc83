"""The interface of all importers: a set of images, and the recipes of the shards that are made from it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import numpy as np

from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage.json_records import Record
from dpt_ray.json_values import JsonObject

Recipe: TypeAlias = JsonObject
"""How to read the images of one output shard, as JSON. `images` is their number; other keys depend on the format. A
built-in reader reads it into a record (`RowRange`)."""


@dataclass(frozen=True)
class RowRange(Record):
    """A recipe for consecutive images of a source.

    Attributes:
        images: their number.
        start: index of the first image.
        stop: index of the image after the last one.
    """

    images: int
    start: int
    stop: int


@dataclass(frozen=True)
class Location(Record):
    """The settings of a reader that needs the location alone: its URL."""

    location: str


def num_images(recipe: Recipe) -> int:
    """Return the number of images of a recipe.

    Raises:
        TypeError: the recipe, which may be that of a plug-in, names none.
    """
    images = recipe.get("images")
    if not isinstance(images, int):
        raise TypeError(f"a recipe names no number of images: {recipe}")
    return images


@dataclass(frozen=True)
class RawImage:
    """An image as read from its source.

    Attributes:
        where: URL of the file that holds it.
        key: its key in the shard, unique over the whole set.
        data: the encoded image, or its pixels as uint8 (C, H, W).
        label: class id; None if it is unlabelled.
        extension: extension of the file's name; None if only the content shows the format.
        own_file: whether the file holds only this image.
    """

    where: str
    key: str
    data: bytes | np.ndarray
    label: int | None
    extension: str | None = None
    own_file: bool = False

    def refuse(self, reason: str) -> Skipped:
        """Return the entry that says why this image is left out."""
        return Skipped(self.where, None if self.own_file else self.key, reason)


class Unread(Skipped):
    """An image that could not be fetched. A retry may succeed; all other reasons lie in the data."""


@dataclass(frozen=True)
class Ignored:
    """A file that is not one of the images. No image is lost, but the file is reported.

    Attributes:
        name: its path below the location. The path of a folder ends with a slash.
        reason: why it is left out.
        document: whether it is clearly not data, such as a readme.
    """

    name: str
    reason: str
    document: bool = False


def missed_first(ignored: Iterable[Ignored]) -> list[Ignored]:
    """Return ignored files, those that may be data before documents."""
    return sorted(ignored, key=lambda entry: entry.document)


@dataclass(frozen=True)
class ImageSet(ABC):
    """A set of images as the driver lists it, before any image is read.

    Attributes:
        location: URL that the user gave.
        listing: hash of the names, sizes and change marks of the source files.
        class_names: class names in the order of their ids; None if neither the settings nor the data name the classes.
        refused: images that the listing already shows to be unusable.
        ignored: files that are not images.
        notes: remarks for the user on how the images were read, one sentence each.
    """

    kind: ClassVar[str]
    """Value of `data.format`."""
    location: str
    listing: str
    class_names: tuple[str, ...] | None
    refused: tuple[Skipped, ...] = field(default=(), kw_only=True)
    ignored: tuple[Ignored, ...] = field(default=(), kw_only=True)
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    def reader_settings(self) -> JsonObject:
        """Return what the reader of this format needs besides a recipe, as JSON."""
        return Location(self.location).to_json()

    def planned_counts(self) -> Mapping[int, int]:
        """Return the number of labelled images of each class id; empty if the listing does not show it."""
        return {}

    @abstractmethod
    def recipes(self, images_per_shard: int) -> Sequence[Recipe]:
        """Return one recipe for each output shard. Each image is in exactly one recipe.

        Args:
            images_per_shard: maximum number of images of a shard.
        """


def ranges(total: int, size: int) -> list[tuple[int, int]]:
    """Return consecutive ranges (start, stop) of `size` that cover [0, total); the last may be shorter."""
    return [(start, min(start + size, total)) for start in range(0, total, size)]
