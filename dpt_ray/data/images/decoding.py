"""Decodes images to uint8 arrays of a fixed size, and encodes PNG.

libjpeg-turbo (simplejpeg) decodes ordinary JPEGs, faster than Pillow and to the same pixels. Pillow decodes all others.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dpt_ray.data.images.crop import centre_crop, halve, to_array
from dpt_ray.data.images.jpeg import JpegDecoder, is_jpeg, read_header, refuse_many_scans
from dpt_ray.data.images.pictures import MAX_PIXELS, complaint, read_picture, refuse_size
from dpt_ray.data.images.white_level import Levels
from dpt_ray.errors import UserError

_TOGETHER_BYTES = 200_000
"""Bytes of decoded images whose colour planes are separated at a time, so that a processor's cache holds them."""


@dataclass(frozen=True)
class ImageForm:
    """The size and channels of decoded images.

    Attributes:
        size: height and width in pixels.
        channels: 1 for grey, 3 for RGB.
        max_pixels: most pixels of an encoded image; one with more is refused before it is decoded.
        white: the value of white in images of more than 8 bits whose files do not state it, the same for all images of
            a data set (`white_level.py`). None is the largest 16-bit value.
    """

    size: int
    channels: int
    max_pixels: int = MAX_PIXELS
    white: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a decoded image: (C, H, W)."""
        return self.channels, self.size, self.size

    @property
    def dtype(self) -> np.dtype:
        """Type of a pixel's values."""
        return np.dtype(np.uint8)

    @property
    def num_bytes(self) -> int:
        """Bytes of a decoded image."""
        return self.channels * self.size**2


def decode_image(data: bytes, form: ImageForm, where: str) -> np.ndarray:
    """Decode one image to uint8 (C, H, W); see `decode_images`.

    Raises:
        UserError: the image cannot be read.
    """
    return decode_images([data], form, lambda row: where)[0]


def raise_error(row: int, error: UserError) -> None:
    """Raise the error of the first image that cannot be read: the default of `decode_images`."""
    raise error


def decode_images(
    encoded: Sequence[bytes],
    form: ImageForm,
    where: Callable[[int], str],
    on_error: Callable[[int, UserError], None] = raise_error,
    out: np.ndarray | None = None,
    levels: Levels | None = None,
) -> np.ndarray:
    """Decode images to uint8 (N, C, H, W); images of another size are cropped by `centre_crop`.

    Args:
        encoded: the contents of N image files.
        form: size and channels of the decoded images.
        where: returns the place of an image, given its number, for messages.
        on_error: called with the number of an image that cannot be read and the error. Its pixels are then undefined.
        out: array for the images, uint8 (N, C, H, W); by default a new one.
        levels: counts the images of more than 8 bits whose white level is that of their data set.
    """
    images = np.empty((len(encoded), *form.shape), np.uint8) if out is None else out
    at_once = max(1, _TOGETHER_BYTES // form.num_bytes)
    staging = np.empty((min(at_once, len(encoded)), form.size, form.size, form.channels), np.uint8)
    decoder = JpegDecoder(form.size, form.channels)
    for start in range(0, len(encoded), at_once):
        together = encoded[start : start + at_once]
        cropped: dict[int, np.ndarray] = {}
        for place, data in enumerate(together):
            try:
                crop = _decode_into(data, form, staging[place], decoder, levels)
            except Exception as error:  # malicious files make decoders raise errors of any type
                on_error(start + place, UserError(complaint(error), where=where(start + place)))
            else:
                if crop is not None:
                    cropped[start + place] = crop
        if len(cropped) < len(together):
            for channel in range(form.channels):
                images[start : start + len(together), channel] = staging[: len(together), ..., channel]
        for row, crop in cropped.items():
            images[row] = crop
    return images


def _decode_into(
    data: bytes, form: ImageForm, out: np.ndarray, decoder: JpegDecoder, levels: Levels | None
) -> np.ndarray | None:
    """Decode one image into `out`, uint8 (H, W, C), and return None; or return a cropped image, uint8 (C, H, W)."""
    if decoder.decode_usual(data, out):
        return None
    pixels = None
    if is_jpeg(data):
        header = read_header(data)
        refuse_size(header.width, header.height, len(data), form.max_pixels)
        refuse_many_scans(data, header)
        pixels = decoder.decode(data, header, out)
    if pixels is None:
        picture = read_picture(
            data, channels=form.channels, max_pixels=form.max_pixels, white=form.white, levels=levels
        )
        pixels = to_array(halve(picture.pixels, form.size))
    if pixels is out:
        return None
    if pixels.shape == out.shape:
        out[:] = pixels
        return None
    return centre_crop(pixels, form.size, form.max_pixels)


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode an image, uint8 (C, H, W) with C in {1, 3}, as PNG; equal pixels give equal bytes."""
    buffer = io.BytesIO()
    _as_picture(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def encode_jpeg(pixels: np.ndarray) -> bytes:
    """Encode an image, uint8 (C, H, W) with C in {1, 3}, as JPEG of quality 95."""
    buffer = io.BytesIO()
    _as_picture(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _as_picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
