"""The embedded data: 1,797 real handwritten digits of 8x8 pixels that scikit-learn ships.

Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (its test
part). scikit-learn defines no split, so a hash of each image's number selects a fifth as test images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import distribution
from typing import ClassVar, Literal

import numpy as np

from dpt_ray.core.seeds import derive_seed
from dpt_ray.data.importing.import_plan import ImageSet, RawImage, Recipe, RowRange, ranges
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage.json_records import Record
from dpt_ray.json_values import JsonObject

_FILE = "sklearn/datasets/data/digits.csv.gz"
"""A row of 64 pixels and the label for each image."""
_MAX_INK = 16
"""Largest pixel value of the original images; they range from 0 to 16."""

Split = Literal["train", "test"]


@lru_cache(maxsize=1)
def _load() -> tuple[np.ndarray, np.ndarray]:
    # `sklearn.datasets.load_digits` reads this file; importing scikit-learn takes a second in each process.
    file = distribution("scikit-learn").locate_file(_FILE)
    rows = np.loadtxt(str(file), delimiter=",")
    return np.round(rows[:, :-1].reshape(-1, 8, 8) * (255 / _MAX_INK)).astype(np.uint8), rows[:, -1].astype(np.int64)


def digit_numbers(split: Split) -> list[int]:
    """Return the indices of a split's digits, shuffled by a hash so that classes are mixed."""
    _, labels = _load()
    numbers = [n for n in range(len(labels)) if (derive_seed("digits split", n) % 5 == 0) == (split == "test")]
    return sorted(numbers, key=lambda n: derive_seed("digits order", n))


@dataclass(frozen=True)
class _Settings(Record):
    split: Split


@dataclass(frozen=True)
class Digits(ImageSet):
    """One split of the embedded digits."""

    kind: ClassVar[str] = "digits"
    split: Split

    def reader_settings(self) -> JsonObject:
        """Return what `read_digits` needs."""
        return _Settings(self.split).to_json()

    def recipes(self, images_per_shard: int) -> list[Recipe]:
        """Return ranges of the split's digits."""
        return [
            RowRange(stop - start, start, stop).to_json()
            for start, stop in ranges(len(digit_numbers(self.split)), images_per_shard)
        ]


def describe_digits(split: Split) -> Digits:
    """Describe a split. No image is read yet."""
    return Digits("digits", "", None, split)


def read_digits(settings: JsonObject, recipe: Recipe) -> Iterator[RawImage | Skipped]:
    """Yield the images of a range of a split, uint8 (1, 8, 8)."""
    images, labels = _load()
    split, rows = _Settings.from_json(settings).split, RowRange.from_json(recipe)
    for number in digit_numbers(split)[rows.start : rows.stop]:
        yield RawImage("digits", f"digit-{number:04d}", images[number][None], int(labels[number]))
