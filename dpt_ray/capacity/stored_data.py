"""The size of a stored training set, from its index and the first images of its first shard."""

import io

from PIL import Image

from dpt_ray.capacity.sizes import DataSize
from dpt_ray.data.images.formats import FORMATS
from dpt_ray.data.loading.shard_samples import read_shard_samples
from dpt_ray.data.shards.index import DatasetIndex

SAMPLED_IMAGES = 64


def stored_data(index: DatasetIndex) -> DataSize:
    """Return the size of a training set; bytes and pixels of an image are means over the first `SAMPLED_IMAGES` images.

    Raises:
        UserError: the first shard cannot be read.
    """
    shard = index.shards[0]
    encoded = [sample.image_bytes(shard.url) for sample in read_shard_samples(shard)[:SAMPLED_IMAGES]]
    pixels = []
    for data in encoded:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:  # reads only the header
            pixels.append(image.width * image.height)
    return DataSize(
        images=index.num_images,
        image_bytes=sum(map(len, encoded)) / len(encoded),
        stored_pixels=sum(pixels) // len(pixels),
        images_per_shard=-(-index.num_images // len(index.shards)),
        num_classes=index.num_classes,
    )
