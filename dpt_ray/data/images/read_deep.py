"""Decoding of images with more than 8 bits a value, which Pillow alone would cut to 8 bits."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import ImageFile

from dpt_ray.data.images.deep_pixels import DeepPixels
from dpt_ray.data.images.stated_white import PHOTOMETRIC, first_value, stated_white

_WHITE_IS_ZERO = 0
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""Byte order of 16-bit samples -> the order in which Pillow, which keeps the high bytes, keeps the low ones."""


def read_deep(
    image: ImageFile.ImageFile, data: bytes, open_again: Callable[[], ImageFile.ImageFile]
) -> DeepPixels | None:
    """Return the pixels of an opened image with more than 8 bits; None for an image of 8 bits, which is not decoded.

    Args:
        image: the opened image, before it is decoded.
        data: the content of the file.
        open_again: opens the file again.

    Raises:
        ValueError: the pixels are floating-point numbers, or values are below zero.
        Exception: any error of Pillow.
    """
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known")
    pixels = _single_channel(image) if image.mode.startswith("I") else _several_channels(image, open_again)
    if pixels is not None:
        pixels.stated = stated_white(image, data, pixels)
    return pixels


def read_as_stored(image: ImageFile.ImageFile) -> None:
    """Let a PPM's values of 16 bits come through whole.

    Pillow scales them one by one, in Python, and colours to 8 bits.

    Args:
        image: as its file was opened; nothing of it is decoded yet.
    """
    (tile,) = image.tile
    if tile.codec_name == "ppm" and isinstance(tile.args, tuple) and tile.args[1] > 255:
        image.tile = [tile._replace(codec_name="raw", args="I;16B" if image.mode == "I" else "RGB;16B")]


def _single_channel(image: ImageFile.ImageFile) -> DeepPixels:
    key = image.info.get("transparency")
    values = np.asarray(image)[..., None]
    if values.dtype.byteorder == ">":
        values = values.astype(values.dtype.newbyteorder("="))
    return DeepPixels(
        (values,),
        key=(key,) if isinstance(key, int) else None,
        white_is_zero=image.format == "TIFF" and first_value(image, PHOTOMETRIC) == _WHITE_IS_ZERO,
    )


def _several_channels(image: ImageFile.ImageFile, open_again: Callable[[], ImageFile.ImageFile]) -> DeepPixels | None:
    """Decode an image of several channels twice, once for high and once for low bytes: Pillow keeps one of the two."""
    forms = {_raw_mode(tile) for tile in image.tile}
    form = forms.pop() if len(forms) == 1 else ""
    channels, _, sample = form.partition(";16")
    if image.format == "PNG" and form == "LA;16B":  # decoded as if its four bytes were four channels
        _set_raw_mode(image, "RGBA")
        grey_alpha = np.asarray(image)
        return DeepPixels((grey_alpha[..., 0:1], grey_alpha[..., 1:2]), alpha=grey_alpha[..., 2:4])
    if image.format not in ("PNG", "TIFF", "PPM") or channels not in ("RGB", "RGBA", "RGBX") or not sample:
        return None
    other = open_again()
    other.tile = list(image.tile)
    _set_raw_mode(other, f"{channels};16{_OTHER_BYTE[sample]}")
    high, low = np.asarray(image), np.asarray(other)
    key = image.info.get("transparency")
    return DeepPixels(
        (high[..., :3], low[..., :3]),
        alpha=np.stack([high[..., 3], low[..., 3]], -1) if high.shape[2] == 4 else None,
        key=key if isinstance(key, tuple) else None,
    )


def _raw_mode(tile: Any) -> str:
    found = tile.args if isinstance(tile.args, str) else tile.args[0] if tile.args else ""
    return found if isinstance(found, str) else ""


def _set_raw_mode(image: ImageFile.ImageFile, mode: str) -> None:
    image.tile = [
        tile._replace(args=(mode, *tile.args[1:]) if isinstance(tile.args, tuple) else mode) for tile in image.tile
    ]
