"""The white level of images with more than 8 bits a value, and their conversion to 8 bits.

A file with 16 bits a value rarely says how many of them are used. Scanners, microscopes and medical devices write
images of 12 bits into such files, which are nearly black if they are read as 16 bits. So the white level is the first
of these that is known: that of the file, that of its data set (`ImageForm.white`), the largest 16-bit value.
A data set has one level for all its images. With a level for each image, the brightness of an object would depend on
the brightest other object in the image.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFile

FULL_WHITE = 65535
"""The white level if no other is known: the largest 16-bit value."""

_STRIP_VALUES = 1_000_000
_BITS_PER_SAMPLE, _PHOTOMETRIC, _LARGEST_TAGS = 258, 262, (281, 341)
_WHITE_IS_ZERO = 0
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""Byte order of 16-bit samples -> the order in which Pillow, which keeps the high bytes, keeps the low ones."""
_MOST_CHUNKS = 1000


@dataclass
class Levels:
    """Counts the images of more than 8 bits whose files state no white level.

    Attributes:
        images: their number.
        largest: the largest value in them.
    """

    images: int = 0
    largest: int = 0

    def add(self, images: int, largest: int) -> None:
        """Count further images."""
        self.images, self.largest = self.images + images, max(self.largest, largest)


def white_level(largest: int) -> int:
    """Return the white level of a set with this largest value: the least 2**n - 1 that is not below it, at least 255.

    So images use at least half of the range of brightness, and sets of 10, 12, 14 and 16 bits get the level of their
    bits.
    """
    return (1 << max(8, largest.bit_length())) - 1


@dataclass(frozen=True)
class WhiteLevel:
    """What an artifact's facts keep of the images of more than 8 bits in a data set.

    Attributes:
        images: their number.
        largest: the largest value in them.
        white: the value that becomes 255.
    """

    images: int
    largest: int
    white: int


def level_facts(found: Iterable[tuple[int, int]], training_white: int | None) -> WhiteLevel | None:
    """Return the white level of a data set; None if it has no image of more than 8 bits.

    Args:
        found: images and largest value of each part of the set, as `Levels` counts them.
        training_white: the white level of the training data, which test data takes; None if it has none.
    """
    levels = Levels()
    for images, largest in found:
        levels.add(images, largest)
    if not levels.images:
        return None
    white = white_level(levels.largest) if training_white is None else training_white
    return WhiteLevel(levels.images, levels.largest, white)


def say_levels(levels: WhiteLevel | None) -> str:
    """Say in a few words what is done with the images of more than 8 bits; nothing if there are none."""
    if levels is None:
        return ""
    return (
        f"{levels.images:,} images of 16 bits, of which {levels.white.bit_length()} are used: "
        f"values go up to {levels.largest:,}, and {levels.white:,} becomes 255"
    )


class DeepPixels:
    """The values of an image with more than 8 bits a value.

    Attributes:
        stated: the white level that the file states; None if it states none.
    """

    def __init__(
        self,
        values: tuple[np.ndarray, ...],
        alpha: np.ndarray | None = None,
        key: tuple[int, ...] | None = None,
        white_is_zero: bool = False,
    ):
        """Hold an image.

        Args:
            values: integers (H, W, C), C in {1, 3}; or their high bytes and their low bytes, uint8 (H, W, C) each.
            alpha: high and low bytes of the opacity, uint8 (H, W, 2).
            key: the values of a transparent pixel, one for each channel.
            white_is_zero: whether 0 is white.
        """
        self._values, self._alpha, self._key, self._white_is_zero = values, alpha, key, white_is_zero
        self.stated: int | None = None

    def largest(self) -> int:
        """Return the largest value.

        Raises:
            ValueError: a value is below zero.
        """
        largest = 0
        for _, strip in self._strips():
            if strip.min(initial=0) < 0:
                raise ValueError("values below zero, whose range is not known")
            largest = max(largest, int(strip.max(initial=0)))
        return largest

    def looks_scaled(self, bits: int) -> bool:
        """Whether values of `bits` bits were scaled to 16, as PNG requires, so that the lower bits are nearly empty.

        All values must be less than 2**bits. In such values, scaling leaves at most 1 in the lower bits.
        """
        below = (1 << (16 - bits)) - 1
        return bits < 15 and all((strip & below).max(initial=0) <= 1 for _, strip in self._strips())

    def to_8_bits(self, white: int) -> Image.Image:
        """Return the image in grey or RGB, with an alpha channel if it has one; values above `white` become white."""
        height, width, channels = self._values[0].shape
        has_alpha = self._alpha is not None or self._key is not None
        pixels = np.empty((height, width, channels + has_alpha), np.uint8)
        for rows, strip in self._strips():
            scaled = _scaled(strip, white)
            pixels[rows, :, :channels] = 255 - scaled if self._white_is_zero else scaled
            if self._key is not None:
                pixels[rows, :, channels] = np.where((strip == self._key).all(-1), 0, 255)
        if self._alpha is not None:
            pixels[..., channels] = self._opacity(white)
        return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)

    def _opacity(self, white: int) -> np.ndarray:
        """Return the opacity in 8 bits, (H, W). Its white level is that of the colours if no value exceeds it."""
        assert self._alpha is not None
        opacity = self._alpha[..., 0].astype(np.uint16) << 8 | self._alpha[..., 1]
        return _scaled(opacity, white if opacity.max(initial=0) <= white else FULL_WHITE)

    def _strips(self) -> Iterator[tuple[slice, np.ndarray]]:
        height, width, channels = self._values[0].shape
        step = max(1, _STRIP_VALUES // (width * channels))
        for start in range(0, height, step):
            rows = slice(start, start + step)
            high, *low = (part[rows] for part in self._values)
            yield rows, high.astype(np.uint16) << 8 | low[0] if low else high


def _scaled(values: np.ndarray, white: int) -> np.ndarray:
    """Scale values from 0 to `white` to 0 to 255. For a white level of n bits, these are the 8 highest bits."""
    if white & (white + 1):
        return (np.minimum(values, white).astype(np.int64) * 256 // (white + 1)).astype(np.uint8)
    return (np.minimum(values, white) >> (white.bit_length() - 8)).astype(np.uint8)


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
        pixels.stated = _stated_white(image, data, pixels)
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
        white_is_zero=image.format == "TIFF" and _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO,
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


def _stated_white(image: ImageFile.ImageFile, data: bytes, pixels: DeepPixels) -> int | None:
    """Return the white level that a file states, in terms of the values that Pillow returns; None if it states none.

    A level that is below a value of the image is ignored. 16 bits, or a largest value of 65535, states no level, since
    files with images of 12 bits say the same.
    """
    if image.format == "PPM":
        maximum = _ppm_maximum(data)
        return maximum if maximum != FULL_WHITE else None
    if image.format == "JPEG2000":
        return FULL_WHITE if _jpeg2000_bits(data) < 16 else None  # Pillow scales by the bits
    if image.format == "PNG":
        bits = _significant_bits(data)
        if not 8 <= bits < 16:
            return None
        unscaled = pixels.largest() < 1 << bits and not pixels.looks_scaled(bits)
        return (1 << bits) - 1 if unscaled else FULL_WHITE
    if image.format == "TIFF":
        stated = _tiff_white(image)
        return stated if stated is not None and pixels.largest() <= stated else None
    return None


def _ppm_maximum(data: bytes) -> int:
    """Return the largest value that the header of a PGM or PPM allows; 65535 if it cannot be read."""
    words: list[bytes] = []
    for line in data[:4096].split(b"\n"):
        words += line.partition(b"#")[0].split()
        if len(words) >= 4:
            break
    return int(words[3]) if len(words) >= 4 and words[3].isdigit() and len(words[3]) < 9 else FULL_WHITE


def _jpeg2000_bits(data: bytes) -> int:
    """Return the bits of the first component of a JPEG 2000; 16 if they cannot be read."""
    start = data.find(b"\xff\x4f\xff\x51")  # the start of the code stream, and its size segment
    depth = data[start + 42 : start + 43] if start >= 0 else b""
    return (depth[0] & 0x7F) + 1 if depth else 16


def _significant_bits(data: bytes) -> int:
    """Return the largest number in a PNG's chunk of significant bits (sBIT); 0 if it has none."""
    place = 8
    for _ in range(_MOST_CHUNKS):
        name, length = data[place + 4 : place + 8], int.from_bytes(data[place : place + 4], "big")
        if name == b"sBIT":
            return max(data[place + 8 : place + 8 + min(length, 3)], default=0)
        if name in (b"IDAT", b""):
            break
        place += 12 + length
    return 0


def _tiff_white(image: ImageFile.ImageFile) -> int | None:
    """Return the white level that the tags of a TIFF state; None if they state none.

    The tags for the largest value count only if it is 2**n - 1: many programs write the image's largest value there.
    """
    bits = _tag(image, _BITS_PER_SAMPLE)
    if isinstance(bits, int) and 8 < bits < 16:
        return (1 << bits) - 1
    for tag in _LARGEST_TAGS:
        value = _tag(image, tag)
        if isinstance(value, int) and 255 <= value < FULL_WHITE and not value & (value + 1):
            return value
    return None


def _tag(image: ImageFile.ImageFile, tag: int) -> object:
    """Return the first value of a tag; None where there is none that can be read."""
    try:
        value = image.tag_v2.get(tag)  # type: ignore[attr-defined]
    except Exception:  # Pillow decodes a tag when it is accessed
        return None
    return value[0] if isinstance(value, tuple) and value else value
