"""A survey of a data set from some of its images, before the import: number, sizes, colours, labels."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from statistics import median

import numpy as np
from PIL import Image

from dpt_ray.data.images.formats import FORMATS
from dpt_ray.data.importing import detect
from dpt_ray.data.importing.found_data import FoundData
from dpt_ray.data.importing.image_files import FileSet
from dpt_ray.data.importing.import_plan import RawImage, num_images
from dpt_ray.data.shards.salvage import read_content
from dpt_ray.data.shards.samples import fetch_shard

MAX_SAMPLED = 60
"""Largest number of images that are read."""
_PER_RECIPE = 20
"""Number of consecutive images of each sampled part of a set."""


@dataclass(frozen=True)
class Survey:
    """What is known of a data set.

    Attributes:
        images: number of images; for shards an estimate from their sizes.
        classes: number of classes; None if neither the settings nor the names of folders give it.
        unlabelled: share of the images without a label.
        short_side: median length of the shorter side in pixels.
        pixels: median number of pixels.
        grey: whether every sampled image is greyscale.
    """

    images: int
    classes: int | None
    unlabelled: float
    short_side: int
    pixels: int
    grey: bool


def survey(found: FoundData) -> Survey | None:
    """Return a survey of a set from some of its images; None if none of them can be read.

    Only headers of image files are decoded.

    Raises:
        UserError: the store does not answer.
    """
    sample = _sample_shards(found) if found.images is None else _sample_files(found)
    seen = [(size, grey) for size, grey, _ in sample.images if size is not None]
    if not seen:
        return None
    if found.images is not None and isinstance(found.images, FileSet):
        labels: list[int | None] = [file.label for file in found.images.files]
    else:
        labels = [label for _, _, label in sample.images]
    return Survey(
        images=sample.total,
        classes=found.num_classes,
        unlabelled=sum(label is None for label in labels) / len(labels),
        short_side=int(median(min(size) for size, _ in seen)),
        pixels=int(median(width * height for (width, height), _ in seen)),
        grey=all(grey for _, grey in seen),
    )


_SampledImage = tuple[tuple[int, int] | None, bool, int | None]
"""Width and height, whether it is greyscale, and the label of an image; the size is None if it cannot be read."""


@dataclass(frozen=True)
class _Sample:
    """Some images of a set, and the number of all its images."""

    total: int
    images: list[_SampledImage]


def _sample_files(found: FoundData) -> _Sample:
    images = found.images
    assert images is not None
    recipes = images.recipes(_PER_RECIPE)
    apart = max(1, len(recipes) * _PER_RECIPE // MAX_SAMPLED)

    def read() -> Iterator[_SampledImage]:
        for recipe in recipes[::apart]:
            for image in detect.read(images.kind, images.reader_settings(), recipe):
                if isinstance(image, RawImage):
                    yield (*_form(image.data), image.label)

    return _Sample(sum(map(num_images, recipes)), list(islice(read(), MAX_SAMPLED)))


def _sample_shards(found: FoundData) -> _Sample:
    files = found.shards.files if found.shards is not None else []
    if not files:
        return _Sample(0, [])
    url = files[0]["url"]
    data = fetch_shard(url)
    samples = read_content(data, url).samples
    sampled = [(*_form(sample.image_bytes(url)), sample.label(url)) for sample in samples[:MAX_SAMPLED]]
    total = sum(file["size"] or 0 for file in files) or len(data)
    return _Sample(round(len(samples) * total / max(1, len(data))), sampled)


def _form(data: bytes | np.ndarray) -> tuple[tuple[int, int] | None, bool]:
    if not isinstance(data, bytes):
        channels, height, width = data.shape
        return (width, height), channels == 1
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            return picture.size, picture.mode in ("1", "L", "LA", "I", "I;16", "F")
    except Exception:  # malicious files make decoders raise errors of any type; the import reports them
        return None, False
