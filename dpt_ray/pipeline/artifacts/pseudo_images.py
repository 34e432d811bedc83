"""Pseudo images: their facts, and the class of each."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np

from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.data.images.decoding import ImageForm, decode_image
from dpt_ray.data.loading.shard_samples import read_shard_samples
from dpt_ray.data.shards.index import DatasetIndex
from dpt_ray.data.shards.integers import Integers
from dpt_ray.data.storage.json_records import Record
from dpt_ray.pipeline.artifacts.step_facts import Facts

SHARDS = "shards"

Number = TypeVar("Number", int, np.ndarray)


@dataclass(frozen=True)
class SampledShard(Record):
    """A shard of pseudo images: its URL, its size, its checksum in hexadecimal digits and its number of images."""

    url: str
    bytes: int
    sha256: str
    images: int


@dataclass(frozen=True, kw_only=True)
class PseudoImagesFacts(Facts):
    """The facts of `PseudoImages`: the images of all classes, the number of classes, and the shards."""

    images: int
    classes: int
    files: tuple[SampledShard, ...]


def describe_guidance(config: SamplingConfig) -> str:
    """Describe the guidance of sampling settings in words."""
    kind = {"classifier_free": "", "autoguidance": "auto", "confidence": "confidence "}[config.guidance_method]
    text = f"{kind}guidance scale {config.guidance_scale:g}"
    if config.guidance_scale > 0 and config.guidance_interval is not None:
        low, high = config.guidance_interval
        text += f" at noise levels {low:g} to {high:g}"
    return f"{text}, entropy scale {config.entropy_scale:g}" if config.entropy_scale > 0 else text


def conditioning_class(number: Number, num_classes: int) -> tuple[Number, Number]:
    """Return the class that a pseudo image is sampled for, and its place among the images of that class.

    Classes take turns, so that every shard contains all classes evenly. Only this function states the rule.

    Args:
        number: number of the image in the whole artifact, from 0; or an integer array of any shape.
        num_classes: number of classes of the run.
    """
    return number % num_classes, number // num_classes


def conditioning_labels(numbers: range, num_classes: int) -> np.ndarray:
    """Return the classes that pseudo images of some consecutive numbers were sampled for, int64 (N,)."""
    return conditioning_class(np.arange(numbers.start, numbers.stop), num_classes)[0]


def requested_labels(index: DatasetIndex) -> Iterator[np.ndarray]:
    """Yield the class that each pseudo image of each shard was sampled for, int64 (samples of the shard,)."""
    stop = 0
    for shard in index.shards:
        start, stop = stop, stop + shard.samples
        yield conditioning_labels(range(start, stop), index.num_classes)


class RequestedClasses(Sequence[int]):
    """The classes that some pseudo images of a shard were sampled for. They are computed when they are read.

    Args:
        first: number of the shard's first image in the whole artifact.
        rows: rows of the images in the shard.
        num_classes: number of classes of the run.
    """

    __slots__ = ("_first", "_num_classes", "_rows")

    def __init__(self, first: int, rows: Sequence[int], num_classes: int):
        self._first, self._rows, self._num_classes = first, rows, num_classes

    @overload
    def __getitem__(self, place: int) -> int: ...

    @overload
    def __getitem__(self, place: slice) -> Integers: ...

    def __getitem__(self, place: int | slice) -> int | Integers:
        if isinstance(place, slice):
            return Integers(np.asarray(self)[place])
        return conditioning_class(self._first + self._rows[place], self._num_classes)[0]

    def __len__(self) -> int:
        return len(self._rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        classes = conditioning_class(self._first + np.asarray(self._rows, np.int64), self._num_classes)[0]
        return classes.astype(dtype or np.int64, copy=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RequestedClasses) and self[:] == other[:]

    def __hash__(self) -> int:
        return hash(self[:])


class PseudoImage(NamedTuple):
    """A pseudo image.

    Attributes:
        label: the class that it was sampled for.
        position: its place among the images of that class.
        pixels: uint8 (C, H, W).
    """

    label: int
    position: int
    pixels: np.ndarray


def first_pseudo_images(
    index: DatasetIndex, form: ImageForm, per_class: int | None, classes: Collection[int] | None = None
) -> Iterator[PseudoImage]:
    """Yield the first pseudo images of every class in the order of the artifact, in which classes take turns.

    Args:
        index: of the pseudo images.
        form: to which the images are brought.
        per_class: images of each class; None for all.
        classes: ids of the classes; None for all.

    Raises:
        UserError: a shard cannot be read.
    """
    number = 0
    for shard in index.shards:
        if per_class is not None and number >= per_class * index.num_classes:
            return
        for sample in read_shard_samples(shard):
            label, position = conditioning_class(number, index.num_classes)
            if (per_class is None or position < per_class) and (classes is None or label in classes):
                yield PseudoImage(label, position, decode_image(sample.image_bytes(shard.url), form, shard.url))
            number += 1
