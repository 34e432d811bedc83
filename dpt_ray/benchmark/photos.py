"""Photographs for benchmarks: crops of scikit-learn's two sample photographs, 500x400 pixels, as usual in ImageNet."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from dpt_ray.data.shards.samples import Sample, build_shard

WIDTH, HEIGHT, QUALITY = 500, 400, 90


def write_photo_shards(folder: Path, shards: int, images_per_shard: int) -> str:
    """Write shards of JPEGs to `folder` and return its path.

    Source of the photographs: Flickr, Creative Commons, from scikit-learn (`sklearn.datasets.load_sample_images`).
    """
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    for number in range(shards):
        numbers = range(number * images_per_shard, (number + 1) * images_per_shard)
        samples = [Sample(f"photo-{n:06d}", {"jpg": _crop(photos[n % len(photos)], n), "cls": b"0"}) for n in numbers]
        (folder / f"{number:05d}.tar").write_bytes(build_shard(samples))
    return str(folder)


def _crop(photo: Image.Image, number: int) -> bytes:
    """Return a random crop of the photograph as JPEG; `number` is the seed."""
    rng = np.random.default_rng(number)
    left, top = int(rng.integers(photo.width - WIDTH + 1)), int(rng.integers(photo.height - HEIGHT + 1))
    part = photo.crop((left, top, left + WIDTH, top + HEIGHT))
    if rng.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    buffer = io.BytesIO()
    part.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
