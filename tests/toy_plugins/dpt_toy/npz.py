"""A data format: an `.npz` file of NumPy with `images`, uint8 (N, H, W, C), and `labels`, int (N,)."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dpt_ray.data.importing.classes import ClassList
from dpt_ray.data.importing.digits import Split
from dpt_ray.data.importing.file_sets import match_files
from dpt_ray.data.importing.format_plugin import Format
from dpt_ray.data.importing.image_files import hash_listing
from dpt_ray.data.importing.import_plan import ImageSet, Location, RawImage, Recipe, RowRange, ranges
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject


@dataclass(frozen=True)
class NpzImages(ImageSet):
    """The images of one file."""

    kind: ClassVar[str] = "npz"
    images: int

    def recipes(self, images_per_shard: int) -> list[Recipe]:
        """Return ranges of images, one for each shard."""
        return [RowRange(stop - start, start, stop).to_json() for start, stop in ranges(self.images, images_per_shard)]


def describe(location: str, split: Split, known: ClassList | None) -> NpzImages:
    """Count the images of a file; the hash of its name, size and time tells when it is another one."""
    files = match_files(location)
    if [file["url"] for file in files] != [location] or not location.endswith(".npz"):
        raise UserError("is no file *.npz", where=location, fix="give the URL of one")
    _, labels = _arrays(location)
    return NpzImages(location, hash_listing(files), known.names if known else None, len(labels))


def read(settings: JsonObject, recipe: Recipe) -> Iterator[RawImage | Skipped]:
    """Yield the images of a range, each with a key of its own."""
    location, rows = Location.from_json(settings).location, RowRange.from_json(recipe)
    images, labels = _arrays(location)
    for number in range(rows.start, rows.stop):
        pixels = np.ascontiguousarray(images[number].transpose(2, 0, 1))
        yield RawImage(location, f"{number:06d}", pixels, int(labels[number]))


def _arrays(url: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(io.BytesIO(stores.read_bytes(url)), allow_pickle=False) as arrays:
        return arrays["images"], arrays["labels"]


NPZ = Format(describe, read)
