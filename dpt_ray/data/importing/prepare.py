"""From an image as its source gives it to the sample that a shard holds."""

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
    """A sample, with its class id and the width and height that its image came in."""

    sample: Sample
    label: int | None
    size: tuple[int, int]


def prepare(
    raw: RawImage, size: int | None, max_pixels: int, white: int | None = None, levels: Levels | None = None
) -> Prepared | Skipped:
    """Check that an image can be read, and bring it to `size`.

    An image stays as it is, byte for byte, if no size is asked for or if it has that size, 8 bits, grey or RGB,
    upright and opaque. Every other one is centre-cropped and stored as PNG without loss; grey stays grey.

    Args:
        raw: the image.
        size: height and width in pixels that are asked for.
        max_pixels: an image with more is refused.
        white: the white level of images of more than 8 bits whose files state none.
        levels: counts those, where they are brought to 8 bits here.

    Returns:
        The sample, or what is wrong with the image.
    """
    try:
        if not len(raw.data):
            raise RefusedImageError("is empty")
        data = encode_png(raw.data) if isinstance(raw.data, np.ndarray) else raw.data
        noted = levels if size is not None else None
        picture = read_picture(data, channels=3, max_pixels=max_pixels, white=white, levels=noted)
        extension = fitting_extension(picture.format, raw.extension)
        if size is not None and not (picture.is_plain and picture.pixels.size == (size, size)):
            data, extension = encode_png(_cropped(picture, size, max_pixels)), "png"
    except Exception as error:  # whatever a decoder raises is this image's complaint
        return raw.refuse(complaint(error))
    files = {extension: data}
    if raw.label is not None:
        files[LABEL_EXTENSION] = str(raw.label).encode()
    return Prepared(Sample(raw.key, files), raw.label, picture.pixels.size)


def _cropped(picture: Picture, size: int, max_pixels: int) -> np.ndarray:
    """Return the centre, uint8 (C, size, size)."""
    # The three channels of a grey image are equal, so nothing is lost.
    image = picture.pixels.convert("L") if picture.is_grey else picture.pixels
    try:
        return centre_crop(to_array(halve(image, size)), size, max_pixels)
    except ValueError as error:
        raise RefusedImageError(f"cannot be brought to {size}x{size} pixels ({error})") from None
