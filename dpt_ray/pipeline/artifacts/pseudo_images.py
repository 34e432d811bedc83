"""Pseudo images: their facts, and the class of each."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from dpt_ray.config.schema import SamplingConfig
from dpt_ray.data.shards.index import DatasetIndex
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
    scale = f"{'' if config.guidance_method == 'classifier_free' else 'auto'}guidance scale {config.guidance_scale:g}"
    if config.guidance_scale == 0 or config.guidance_interval is None:
        return scale
    low, high = config.guidance_interval
    return f"{scale} at noise levels {low:g} to {high:g}"


def conditioning_class(number: Number, num_classes: int) -> tuple[Number, Number]:
    """Return the class that a pseudo image is sampled for, and its place among the images of that class.

    Classes take turns, so that every shard contains all classes evenly. Only this function states the rule.

    Args:
        number: number of the image in the whole artifact, from 0; or an integer array of any shape.
        num_classes: number of classes of the run.
    """
    return number % num_classes, number // num_classes


def conditioning_labels(index: DatasetIndex) -> list[np.ndarray]:
    """Return the class that each pseudo image of each shard was sampled for, int64 (samples of the shard,)."""
    ends = np.cumsum([shard.samples for shard in index.shards])
    return [
        conditioning_class(np.arange(end - shard.samples, end), index.num_classes)[0]
        for shard, end in zip(index.shards, ends, strict=True)
    ]
