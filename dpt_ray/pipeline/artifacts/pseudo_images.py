"""Pseudo images: which class each was sampled for."""

import numpy as np

from dpt_ray.config.schema import SamplingConfig
from dpt_ray.data.shards.index import DatasetIndex

SHARDS = "shards"


def describe_guidance(config: SamplingConfig) -> str:
    """Return the guidance of a sampling in words."""
    scale = f"{'' if config.guidance_method == 'classifier_free' else 'auto'}guidance scale {config.guidance_scale:g}"
    if config.guidance_scale == 0 or config.guidance_interval is None:
        return scale
    low, high = config.guidance_interval
    return f"{scale} at noise levels {low:g} to {high:g}"


def asked_labels(index: DatasetIndex) -> list[np.ndarray]:
    """Return the class that was asked of the generator for each pseudo image of each shard, int64."""
    ends = np.cumsum([shard.samples for shard in index.shards])
    return [
        np.arange(end - shard.samples, end) % index.num_classes for shard, end in zip(index.shards, ends, strict=True)
    ]
