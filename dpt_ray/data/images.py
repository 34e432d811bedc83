"""Encoded images to fixed-size uint8 arrays, and back to PNG.

JPEG goes through libjpeg-turbo (simplejpeg), with the pixels that Pillow gives, some ten times sooner for small
images. Everything else, and every JPEG that is out of the ordinary, goes through Pillow.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from dpt_ray.data.crop import centre_crop, to_array
from dpt_ray.data.image_formats import FORMATS
from dpt_ray.errors import UserError

MAX_PIXELS = 64_000_000
"""An image with more pixels is refused before it is decoded (decompression bombs), unless settings say otherwise."""

_TOGETHER_BYTES = 200_000
"""Decoded images whose colour planes are separated together, while a processor's cache holds them."""


@dataclass(frozen=True)
class ImageForm:
    """What every image is brought to.

    Attributes:
        size: height and width in pixels.
        channels: 1 for grey, 3 for RGB.
        max_pixels: an image with more is refused before it is decoded.
    """

    size: int
    channels: int
    max_pixels: int = MAX_PIXELS

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.size, self.size

    @property
    def dtype(self) -> np.dtype:
        """Type of a pixel."""
        return np.dtype(np.uint8)

    @property
    def num_bytes(self) -> int:
        """Bytes of a decoded image."""
        return self.channels * self.size**2


def decode_image(data: bytes, form: ImageForm, where: str) -> np.ndarray:
    """Decode one image to uint8, (C, H, W); see `decode_images`.

    Raises:
        UserError: it cannot be read.
    """
    return decode_images([data], form, lambda row: where)[0]


def raise_error(row: int, error: UserError) -> None:
    """Let the first image that cannot be read end a call of `decode_images`."""
    raise error


def decode_images(
    encoded: Sequence[bytes],
    form: ImageForm,
    where: Callable[[int], str],
    on_error: Callable[[int, UserError], None] = raise_error,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Decode images to uint8, (N, C, H, W); an image of another size is centre-cropped as in `centre_crop`.

    Args:
        encoded: the images' files.
        form: what they are brought to.
        where: gives an image's name for messages.
        on_error: is told the number of an image that cannot be read, and why; its pixels are then left undefined.
        out: where to put the images, of the shape that is returned; by default a new array.
    """
    images = np.empty((len(encoded), *form.shape), np.uint8) if out is None else out
    at_once = max(1, _TOGETHER_BYTES // form.num_bytes)
    staging = np.empty((min(at_once, len(encoded)), form.size, form.size, form.channels), np.uint8)
    scratch = _Scratch()
    for start in range(0, len(encoded), at_once):
        together = encoded[start : start + at_once]
        cropped: dict[int, np.ndarray] = {}
        for place, data in enumerate(together):
            try:
                crop = _decode_into(data, form, staging[place], scratch, where, start + place)
            except UserError as error:
                on_error(start + place, error)
            else:
                if crop is not None:
                    cropped[start + place] = crop
        if len(cropped) < len(together):
            for channel in range(form.channels):
                images[start : start + len(together), channel] = staging[: len(together), ..., channel]
        for row, crop in cropped.items():
            images[row] = crop
    return images


class _Scratch:
    """Room for a decoded image of any size, used again: touching fresh memory takes half as long as decoding."""

    def __init__(self) -> None:
        self._room = bytearray()

    def room_for(self, num_bytes: int) -> bytearray:
        if len(self._room) < num_bytes:
            self._room = bytearray(num_bytes)
        return self._room


def _decode_into(
    data: bytes, form: ImageForm, out: np.ndarray, scratch: _Scratch, where: Callable[[int], str], row: int
) -> np.ndarray | None:
    """Decode one image into `out`, uint8 (H, W, C); one that had to be cropped is returned instead, (C, H, W)."""
    if _decode_usual_jpeg(data, form, out):
        return None
    pixels = _decode_jpeg(data, form, out, scratch)
    if pixels is out:
        return None
    name = ""
    if pixels is None:
        name = where(row)
        image = open_image(data, channels=form.channels, max_pixels=form.max_pixels, where=name)
        pixels = to_array(image)
    if pixels.shape == out.shape:
        out[:] = pixels
        return None
    try:
        return centre_crop(pixels, form.size, form.max_pixels)
    except ValueError as error:
        raise UserError(f"is not a readable image ({error})", where=name or where(row)) from None


_COLOUR_FRAME, _APPLICATION_1, _SCAN = b"\xff\xc0\x00\x11\x08", b"\xe1", b"\xda"
"""JPEG markers: a baseline frame of three components and 8 bits, the segment that holds EXIF, and the first scan."""


def _decode_usual_jpeg(data: bytes, form: ImageForm, out: np.ndarray) -> bool:
    """Decode a baseline colour JPEG of the very size into `out`, if it is one; its header is not parsed twice."""
    if form.channels != 3 or data[:3] != b"\xff\xd8\xff":
        return False
    frame = data.find(_COLOUR_FRAME)
    if frame < 0 or data.find(_APPLICATION_1, 2, frame) >= 0:  # the latter may turn the image
        return False
    size = frame + len(_COLOUR_FRAME)
    # Not left to simplejpeg to refuse: it loses 5 kB whenever it raises.
    if int.from_bytes(data[size : size + 4], "big") != form.size << 16 | form.size:  # height, width
        return False
    try:
        return simplejpeg.decode_jpeg(data, "RGB", buffer=out).shape == out.shape
    except ValueError:  # damaged
        return False


def _decode_jpeg(data: bytes, form: ImageForm, out: np.ndarray, scratch: _Scratch) -> np.ndarray | None:
    """Decode an ordinary JPEG to uint8 (H, W, C), into `out` if it has its size, or `scratch`; None for all else.

    Ordinary is: upright, without a fault, within the limit of pixels, grey or in three colours, and of as many
    channels as are wanted (grey also serves as RGB).
    """
    if data[:3] != b"\xff\xd8\xff":
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        fits = colours in ("YCbCr", "RGB", "Gray") and (form.channels == 3 or colours == "Gray")
        if not fits or height * width > form.max_pixels or not _is_upright(data):
            return None
        fitting = height == width == form.size
        buffer = out if fitting else scratch.room_for(height * width * form.channels)
        pixels = simplejpeg.decode_jpeg(data, "RGB" if form.channels == 3 else "GRAY", buffer=buffer)
    except ValueError:  # Pillow decides whether it can be read after all
        return None
    return out if fitting else pixels


def _is_upright(data: bytes) -> bool:
    if not _has_application_1(data):
        return True
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return image.getexif().get(ORIENTATION, 1) == 1
    except (OSError, SyntaxError, ValueError):
        return False


def _has_application_1(data: bytes) -> bool:
    """Whether the header of a JPEG has the segment where EXIF and XMP say how it is turned, or cannot be walked."""
    place = 2
    while data[place : place + 1] == b"\xff":
        marker = data[place + 1 : place + 2]
        if marker == _APPLICATION_1:
            return True
        if marker == _SCAN:
            return False
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return True


ORIENTATION = 0x0112
"""The EXIF tag; 1 is upright."""


def open_image(data: bytes, *, channels: int, where: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image of any size to 8-bit grey (1 channel) or RGB (3), upright and without transparency.

    Raises:
        UserError: not an image that Pillow reads, floating-point pixels, or more than `max_pixels`.
    """
    if Image.MAX_IMAGE_PIXELS is not None:  # Pillow's own limit, of the whole process, must not be the lower one
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise UserError(f"has {image.width}x{image.height} pixels; at most {max_pixels} are read", where=where)
            return _convert(ImageOps.exif_transpose(image), channels)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f"is not a readable image ({_ADDRESS.sub('', str(error))})", where=where) from None


_ADDRESS = re.compile(r" ?<_io\.BytesIO object at 0x[0-9a-f]+>")
"""Pillow names the object that it read: noise to people, and another one in every process."""


def _convert(image: Image.Image, channels: int) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known")
    if image.mode.startswith("I"):  # 16-bit values; Pillow clips them instead of scaling
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode uint8 (C, H, W), C in {1, 3}, as PNG; equal pixels give equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(buffer, "PNG")
    return buffer.getvalue()
