"""From an image as its source gives it to the sample that a shard holds."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dpt_ray.data.crop import centre_crop, to_array
from dpt_ray.data.image_formats import FORMATS
from dpt_ray.data.images import ORIENTATION, encode_png, open_image
from dpt_ray.data.importing.plan import RawImage
from dpt_ray.data.shards import LABEL_EXTENSION, Sample
from dpt_ray.data.skipped import Skipped
from dpt_ray.errors import UserError

_EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "PPM": "ppm", "GIF": "gif", "TIFF": "tif"}
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")


@dataclass(frozen=True)
class Prepared:
    """A sample, with its class id and the width and height that its image came in."""

    sample: Sample
    label: int | None
    size: tuple[int, int]


def prepare(raw: RawImage, size: int | None, max_pixels: int) -> Prepared | Skipped:
    """Check that an image can be read, and bring it to `size`.

    An image stays as it is, byte for byte, if no size is asked for or if it has that size, 8 bits, grey or RGB,
    upright and opaque. Every other one is centre-cropped and stored as PNG without loss; grey stays grey.

    Args:
        raw: the image.
        size: height and width in pixels that are asked for.
        max_pixels: an image with more is refused.

    Returns:
        The sample, or what is wrong with the image.
    """
    try:
        found = _Found(raw, max_pixels)
        data, extension = found.data, raw.extension or found.extension
        if size is not None and not found.is_plain(size):
            data, extension = found.cropped(size, max_pixels), "png"
    except UserError as error:
        return raw.refuse(error.what)
    files = {extension: data}
    if raw.label is not None:
        files[LABEL_EXTENSION] = str(raw.label).encode()
    return Prepared(Sample(raw.key, files), raw.label, found.size)


class _Found:
    """An image that can be read, with what its header says."""

    def __init__(self, raw: RawImage, max_pixels: int):
        if not len(raw.data):
            raise UserError("is empty")
        self.data = encode_png(raw.data) if isinstance(raw.data, np.ndarray) else raw.data
        self._upright = open_image(self.data, channels=3, where="", max_pixels=max_pixels)
        self.size = self._upright.size
        with Image.open(io.BytesIO(self.data), formats=FORMATS) as image:
            self.extension = _EXTENSIONS[image.format or "PNG"]
            self._grey = image.mode in _GREY
            self._opaque_8_bit = image.mode in ("L", "RGB") and "transparency" not in image.info
            self._turned = image.getexif().get(ORIENTATION, 1) != 1

    def is_plain(self, size: int) -> bool:
        """Whether the image can be used as it is where images of this size are wanted."""
        return self.size == (size, size) and self._opaque_8_bit and not self._turned

    def cropped(self, size: int, max_pixels: int) -> bytes:
        """Return the centre in this size as PNG."""
        image = self._upright
        if self._grey:
            image = image.convert("L")  # its three channels are equal, so nothing is lost
        try:
            return encode_png(centre_crop(to_array(image), size, max_pixels))
        except ValueError as error:
            raise UserError(f"cannot be brought to {size}x{size} pixels ({error})") from None
