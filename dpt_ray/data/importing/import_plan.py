"""The interface of all importers: what a set of images holds, and the recipes of the shards made from it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from dpt_ray.data.shards.skipped import Skipped

Recipe = dict[str, Any]
"""How to get the images of one output shard: JSON-like, with their number under `images`."""


@dataclass(frozen=True)
class RawImage:
    """One image as its source gives it.

    Attributes:
        where: URL of the file that holds it.
        key: its key in the shard, unique over the whole set.
        data: the encoded image, or its pixels as uint8 (C, H, W).
        label: class id, None where the source gives none.
        extension: how the file's name ends; None where only the content tells the format.
        own_file: whether the file holds nothing but this image.
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
    """An image that could not be fetched, which another try may mend; all other reasons lie in the data."""


@dataclass(frozen=True)
class Ignored:
    """A file that is no part of the images: nothing is lost with it, but people are told.

    Attributes:
        name: its path below the location; that of a folder ends with a slash.
        reason: why it is left out.
        document: whether it is plainly no data, so that nobody misses it.
    """

    name: str
    reason: str
    document: bool = False


def missed_first(ignored: Iterable[Ignored]) -> list[Ignored]:
    """Return files with those that somebody may miss before those that are plainly no data."""
    return sorted(ignored, key=lambda entry: entry.document)


@dataclass(frozen=True)
class ImageSet(ABC):
    """A set of images as the driver sees it before any image is read.

    Attributes:
        location: URL that the user gave.
        listing: hash of the names, sizes and change marks of the files that the images come from.
        class_names: in the order of class ids; None if nobody named the classes.
        refused: images that cannot be used, as far as the listing tells.
        ignored: files that are no images.
        notes: what people should know about how the images were read, a sentence each.
    """

    kind: ClassVar[str]
    """Value of `data.format`."""
    location: str
    listing: str
    class_names: tuple[str, ...] | None
    refused: tuple[Skipped, ...] = field(default=(), kw_only=True)
    ignored: tuple[Ignored, ...] = field(default=(), kw_only=True)
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    def reader_settings(self) -> dict[str, Any]:
        """Return what the kind's reader needs besides a recipe, JSON-like."""
        return {"location": self.location}

    def planned_labels(self) -> frozenset[int]:
        """Return the class ids that have an image, as far as the listing tells."""
        return frozenset()

    @abstractmethod
    def recipes(self, images_per_shard: int) -> list[Recipe]:
        """Return one recipe for each output shard: every image is in exactly one."""


def ranges(total: int, size: int) -> list[tuple[int, int]]:
    """Cut [0, total) into ranges of `size`; the last may be shorter."""
    return [(start, min(start + size, total)) for start in range(0, total, size)]
