"""Turn an image of a source into a sample of a shard: check it, and crop it if a size is set."""

from dataclasses import dataclass

import numpy as np

from dpt_ray.data.images.crop import centre_crop, halve, to_array
from dpt_ray.data.images.decoding import encode_png
from dpt_ray.data.images.formats import fitting_extension
from dpt_ray.data.images.pictures import Picture, RefusedImageError, complaint, read_picture
from dpt_ray.data.images.white_level import Levels
from dpt_ray.data.importing.import_plan import RawImage
from dpt_ray.data.shards.samples import LABEL_EXTENSION, Sample
from dpt_ray.data.shards.skipped import Skipped


@dataclass(frozen=True)
class Prepared:
    """A sample of a shard.

    Attributes:
        sample: its key and files.
        label: class id; None if it is unlabelled.
        size: width and height of the source image, in pixels.
    """

    sample: Sample
    label: int | None
    size: tuple[int, int]


def prepare(
    raw: RawImage, size: int | None, max_pixels: int, white: int | None = None, levels: Levels | None = None
) -> Prepared | Skipped:
    """Check that an image can be decoded, and crop it to `size`.

    The encoded bytes are kept if `size` is None, or if the image has that size, is upright and opaque, and has 8 bits
    in grey or RGB. Any other image is centre-cropped and stored as PNG, which is lossless. Grey stays grey.

    Args:
        raw: the image.
        size: height and width in pixels; None to keep the size.
        max_pixels: maximum number of pixels of the source image.
        white: white level of images of more than 8 bits whose files do not state one.
        levels: counts the largest values of such images if they are converted to 8 bits here.

    Returns:
        The sample, or the reason why the image is unusable.
    """
    try:
        if not len(raw.data):
            raise RefusedImageError("is empty")
        data = encode_png(raw.data) if isinstance(raw.data, np.ndarray) else raw.data
        counted = levels if size is not None else None
        picture = read_picture(data, channels=3, max_pixels=max_pixels, white=white, levels=counted)
        extension = fitting_extension(picture.format, raw.extension)
        if size is not None and not (picture.is_plain and picture.pixels.size == (size, size)):
            data, extension = encode_png(_cropped(picture, size, max_pixels)), "png"
    except Exception as error:  # decoders raise many types of errors for damaged data
        return raw.refuse(complaint(error))
    files = {extension: data}
    if raw.label is not None:
        files[LABEL_EXTENSION] = str(raw.label).encode()
    return Prepared(Sample(raw.key, files), raw.label, picture.pixels.size)


def _cropped(picture: Picture, size: int, max_pixels: int) -> np.ndarray:
    """Return the centre crop, uint8 (C, size, size)."""
    # The three channels of a grey image are equal, so nothing is lost.
    image = picture.pixels.convert("L") if picture.is_grey else picture.pixels
    try:
        return centre_crop(to_array(halve(image, size)), size, max_pixels)
    except ValueError as error:
        raise RefusedImageError(f"cannot be brought to {size}x{size} pixels ({error})") from None
