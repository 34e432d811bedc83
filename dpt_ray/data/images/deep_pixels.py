"""The values of an image with more than 8 bits a value, and their conversion to 8 bits."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from dpt_ray.data.images.white_level import FULL_WHITE

_STRIP_VALUES = 1_000_000


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
