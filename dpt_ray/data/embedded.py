"""The embedded data: 1,797 real handwritten digits of 8x8 pixels that scikit-learn ships.

Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository (its test part). scikit-learn defines no split, so a hash of each image's number holds a
fifth of them out.
"""

from functools import lru_cache
from typing import Literal

import numpy as np

from dpt_ray.core.random import derive_seed
from dpt_ray.data.images import encode_png
from dpt_ray.data.shards import LABEL_EXTENSION, Sample

_MAX_INK = 16
"""The original values run from 0 to 16."""

Split = Literal["train", "test"]


@lru_cache(maxsize=1)
def _load() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.round(digits.images * (255 / _MAX_INK)).astype(np.uint8), digits.target


def digit_numbers(split: Split) -> list[int]:
    """Return the numbers of the digits in a split, in an order that mixes the classes."""
    _, labels = _load()
    numbers = [n for n in range(len(labels)) if (derive_seed("digits split", n) % 5 == 0) == (split == "test")]
    return sorted(numbers, key=lambda n: derive_seed("digits order", n))


def digit_samples(split: Split, start: int, stop: int) -> list[Sample]:
    """Return samples [start, stop) of a split: PNG images with their labels."""
    images, labels = _load()
    return [
        Sample(
            f"digit-{number:04d}",
            {"png": encode_png(images[number][None]), LABEL_EXTENSION: str(labels[number]).encode()},
        )
        for number in digit_numbers(split)[start:stop]
    ]
