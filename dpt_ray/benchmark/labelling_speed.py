"""The rate at which one process of batch inference labels shards: it reads, decodes, computes and encodes."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.config.data_section import DataConfig
from dpt_ray.core.models.network_settings import build_classifier, stored_settings
from dpt_ray.core.weights import Description, save_network
from dpt_ray.data.images.decoding import encode_png
from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.samples import Sample, build_shard, sha256
from dpt_ray.distributed.units import ShardUnit
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.pipeline.execution.prediction_worker import PredictionSettings, PredictionWorker

SIDE, CLASSES = 32, 10
CHANNELS: Literal[3] = 3
SHARDS = 4


def labelling_contestant(
    folder: Path, config: ClassifierConfig, images_per_shard: int, device: str
) -> Callable[[int], int]:
    """Return a function that labels shards so many times and returns the number of images.

    Args:
        folder: receives the shards and a classifier with random weights.
        config: the classifier; features are computed in its precision.
        images_per_shard: images of a shard, PNGs of random pixels.
        device: the torch device.
    """
    units = [_unit(folder, number, images_per_shard) for number in range(SHARDS)]
    network = build_classifier(config.model, channels=CHANNELS, num_classes=CLASSES)
    description: Description = {
        "kind": "classifier",
        "model": stored_settings(config.model),
        "channels": CHANNELS,
        "num_classes": CLASSES,
    }
    file = folder / NETWORK_FILE
    file.write_bytes(save_network(network, description))
    settings = PredictionSettings(DataConfig(train=str(folder), image_size=SIDE, channels=CHANNELS), classifier=config)
    worker = PredictionWorker(settings, CLASSES, str(file), False, None, str(folder), None, device)

    def run(passes: int) -> int:
        for _ in range(passes):
            for unit in units:
                worker.make(unit)
        return passes * SHARDS * images_per_shard

    return run


def _unit(folder: Path, number: int, images: int) -> ShardUnit:
    pixels = np.random.default_rng(number).integers(0, 256, (images, CHANNELS, SIDE, SIDE), dtype=np.uint8)
    content = build_shard(Sample(f"{row:06d}", {"png": encode_png(image)}) for row, image in enumerate(pixels))
    path = folder / f"{number:05d}.tar"
    path.write_bytes(content)
    return ShardUnit(number, ShardInfo(str(path), len(content), sha256(content), images))
