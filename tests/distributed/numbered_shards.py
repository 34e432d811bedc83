"""Small shard sets for tests, with images that tell which they are."""

import numpy as np

from dpt_ray.data.images.decoding import ImageForm, encode_png
from dpt_ray.data.loading.source import ImageSource, SourceShard
from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.samples import Sample, build_shard, sha256
from dpt_ray.data.storage import stores

IMAGE_SIZE = 8


def numbered_image(number: int) -> np.ndarray:
    """A 1x8x8 image that is a function of `number` and of no other number."""
    return np.random.default_rng(number).integers(0, 256, (1, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)


def write_numbered_shards(folder: str, counts: list[int]) -> ImageSource:
    """Write shards of `counts` images, numbered through, labelled by number modulo 3."""
    shards, number = [], 0
    for position, count in enumerate(counts):
        numbers = range(number, number + count)
        data = build_shard(
            Sample(f"image-{n:04d}", {"png": encode_png(numbered_image(n)), "cls": str(n % 3).encode()})
            for n in numbers
        )
        url = stores.join(folder, f"{position:05d}.tar")
        stores.write_bytes(url, data)
        info = ShardInfo(url, len(data), sha256(data), count)
        shards.append(SourceShard(info, labels=tuple(n % 3 for n in numbers)))
        number += count
    return ImageSource(tuple(shards), ImageForm(IMAGE_SIZE, 1))
