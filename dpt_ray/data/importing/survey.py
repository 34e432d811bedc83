"""What a look at some images of a data set shows, before anything is imported: number, sizes, colours, labels."""

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
from dpt_ray.data.importing.import_plan import RawImage
from dpt_ray.data.shards.salvage import read_content
from dpt_ray.data.shards.samples import fetch_shard

LOOKED_AT = 60
"""Most images that are looked at."""
_ASIDE = 20
"""Images in each part of a set that is read for the look."""


@dataclass(frozen=True)
class Survey:
    """What is known of a data set.

    Attributes:
        images: number of images; for shards an estimate from their sizes.
        classes: number of classes; None if neither settings nor names tell it.
        unlabelled: share of the images without a label.
        short_side: median length of the shorter side in pixels.
        pixels: median number of pixels.
        grey: whether every image looked at is greyscale.
    """

    images: int
    classes: int | None
    unlabelled: float
    short_side: int
    pixels: int
    grey: bool


def survey(found: FoundData) -> Survey | None:
    """Look at some images of a set; None if none of these can be read.

    Only headers of image files are decoded.

    Raises:
        UserError: the store does not answer.
    """
    looks = _look_at_shards(found) if found.images is None else _look_at_files(found)
    seen = [(size, grey) for size, grey, _ in looks.looks if size is not None]
    if not seen:
        return None
    if found.images is not None and isinstance(found.images, FileSet):
        labels: list[int | None] = [file.label for file in found.images.files]
    else:
        labels = [label for _, _, label in looks.looks]
    return Survey(
        images=looks.total,
        classes=found.num_classes,
        unlabelled=sum(label is None for label in labels) / len(labels),
        short_side=int(median(min(size) for size, _ in seen)),
        pixels=int(median(width * height for (width, height), _ in seen)),
        grey=all(grey for _, grey in seen),
    )


Look = tuple[tuple[int, int] | None, bool, int | None]
"""Width and height, whether it is greyscale, and the label of an image; the size is None if it cannot be read."""


@dataclass(frozen=True)
class _Looks:
    total: int
    looks: list[Look]


def _look_at_files(found: FoundData) -> _Looks:
    images = found.images
    assert images is not None
    recipes = images.recipes(_ASIDE)
    apart = max(1, len(recipes) * _ASIDE // LOOKED_AT)

    def read() -> Iterator[Look]:
        for recipe in recipes[::apart]:
            for image in detect.read(images.kind, images.reader_settings(), recipe):
                if isinstance(image, RawImage):
                    yield (*_form(image.data), image.label)

    return _Looks(sum(int(str(recipe["images"])) for recipe in recipes), list(islice(read(), LOOKED_AT)))


def _look_at_shards(found: FoundData) -> _Looks:
    files = found.shards.files if found.shards is not None else []
    if not files:
        return _Looks(0, [])
    url = files[0]["url"]
    data = fetch_shard(url)
    samples = read_content(data, url).samples
    looks = [(*_form(sample.image_bytes(url)), sample.label(url)) for sample in samples[:LOOKED_AT]]
    total = sum(file["size"] or 0 for file in files) or len(data)
    return _Looks(round(len(samples) * total / max(1, len(data))), looks)


def _form(data: bytes | np.ndarray) -> tuple[tuple[int, int] | None, bool]:
    if not isinstance(data, bytes):
        channels, height, width = data.shape
        return (width, height), channels == 1
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            return picture.size, picture.mode in ("1", "L", "LA", "I", "I;16", "F")
    except Exception:  # malicious files make decoders raise errors of any type; the import reports them
        return None, False
