"""Hashes of decoded images: one of the exact pixels, and one that re-encoded or rescaled copies share.

Shape letters: N images, C channels, S pixels a side, K frequencies an axis, W words of 64 bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import shake_128

import numpy as np

PIXEL_HASH, PERCEPTUAL_HASH = "pixel_hash", "perceptual_hash"
"""Names of columns of a data set's sidecars: uint64, (N, 2) and (N, 4)."""

SMALLEST_SIDE = 8
"""Side in pixels of the smallest image that has a perceptual hash."""
LEAST_CONTRAST = 2.0
"""Standard deviation, in levels of 0 to 255, of the flattest image that has a perceptual hash."""

_FREQUENCIES = 16
_COMPARABLE = np.uint64(1)
"""The bit of the mean, which the hash does not use: whether an image has a perceptual hash."""
_GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Luma of ITU-R BT.601."""
_ONE = np.ones(1, np.float32)
_ROUNDING = 0.1
"""Largest coefficient, in levels, that counts as zero: invisible, and larger than the error of float32."""
_MOST_PIXELS = 2**15
"""Pixels that are converted to float32 at a time."""


@dataclass(frozen=True, eq=False)
class ImageHashes:
    """The hashes of some images.

    Attributes:
        pixels: uint64 (N, 2); see `pixel_hashes`.
        perceptual: uint64 (N, 4); see `perceptual_hashes`.
    """

    pixels: np.ndarray
    perceptual: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def update(self, rows: Sequence[int], images: np.ndarray) -> None:
        """Set the hashes of N rows to those of their images, uint8 (N, C, S, S)."""
        wanted = list(rows)
        self.pixels[wanted] = pixel_hashes(images)
        self.perceptual[wanted] = perceptual_hashes(images)

    def columns(self, rows: Sequence[int]) -> dict[str, np.ndarray]:
        """Return the sidecar's columns for these rows."""
        return {PIXEL_HASH: self.pixels[rows], PERCEPTUAL_HASH: self.perceptual[rows]}


def empty_hashes(images: int) -> ImageHashes:
    """Return hashes of zeros for a number of images."""
    return ImageHashes(np.zeros((images, 2), np.uint64), np.zeros((images, 4), np.uint64))


def pixel_hashes(images: np.ndarray) -> np.ndarray:
    """Return a hash of 128 bits of each image, uint64 (N, 2). Images with equal pixels have equal hashes.

    It consists of two multilinear hashes (Carter and Wegman 1979) with fixed random keys, modulo 2^64. A multilinear
    hash depends less on the high bits of its words, so the second one reads the bytes of each word in reverse order.
    For two given images that differ anywhere, the probability of equal hashes is at most 2^-58. The hash does not
    withstand images that are made to collide.

    Args:
        images: uint8 (N, C, S, S).
    """
    flat = images.reshape(len(images), -1)
    if flat.shape[1] % 8:
        flat = np.pad(flat, ((0, 0), (0, -flat.shape[1] % 8)))
    words = np.ascontiguousarray(flat).view("<u8")
    keys = _keys(words.shape[1])
    return np.stack([np.einsum("nw,w->n", words, keys[0]), np.einsum("nw,w->n", words.byteswap(), keys[1])], axis=1)


@lru_cache(maxsize=4)
def _keys(words: int) -> np.ndarray:
    return np.frombuffer(shake_128(b"pixel hash").digest(2 * 8 * words), "<u8").reshape(2, words)


def perceptual_hashes(images: np.ndarray) -> np.ndarray:
    """Return a perceptual hash of each image, uint64 (N, 4); all bits are 0 for an image that has none.

    The bits are the signs of the lowest frequencies of the grey image's discrete cosine transform, without the mean, as
    in pHash (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2.1). Unlike
    in pHash, a bit says whether a coefficient is above zero, not above the median. The first word holds the lowest
    8 x 8 frequencies, as in pHash. The others hold the rest of 16 x 16, or of S x S for smaller images.

    A few bits of a word change if an image is re-encoded, scaled, brightened or converted to grey. Many change if it is
    shifted by some pixels, mirrored or rotated.

    Args:
        images: uint8 (N, C, S, S), C in {1, 3}.
    """
    side = images.shape[-1]
    if side < SMALLEST_SIDE:
        return np.zeros((len(images), 4), np.uint64)
    spectra = _spectra(images)
    count, frequencies = spectra.shape[:2]
    flat = spectra.reshape(count, -1)
    above = np.zeros((count, _FREQUENCIES, _FREQUENCIES), bool)
    np.greater(spectra, _ROUNDING, out=above[:, :frequencies, :frequencies])
    above[:, 0, 0] = True
    power = np.einsum("nf,nf->n", flat, flat) - flat[:, 0] ** 2
    above[power < (LEAST_CONTRAST * side) ** 2] = False
    packed = np.packbits(above.reshape(-1), bitorder="little").reshape(count, 2, 8, 2)  # rows are whole bytes
    return np.ascontiguousarray(packed.transpose(0, 1, 3, 2)).view("<u8").reshape(count, 4)


def is_comparable(perceptual: np.ndarray) -> np.ndarray:
    """Return which images, bool (N,), have a perceptual hash: those that are large enough and have enough contrast."""
    return (perceptual[:, 0] & _COMPARABLE) != 0


def _spectra(images: np.ndarray) -> np.ndarray:
    """Return the coefficients of the lowest frequencies, float32 (N, K, K), horizontal ones first.

    Images are transformed a few at a time in the same arrays, so that a processor's cache holds the arrays.
    """
    count, channels, side = images.shape[:3]
    basis = _cosines(side)
    frequencies = basis.shape[1]
    spectra = np.empty((count, frequencies, frequencies), np.float32)
    at_once = max(1, _MOST_PIXELS // side**2)
    colours = np.empty((at_once, channels, side**2), np.float32)
    grey = np.empty((at_once, side**2), np.float32)
    across = np.empty((at_once * side, frequencies), np.float32)
    turned = np.empty((at_once, frequencies, side), np.float32)
    for start in range(0, count, at_once):
        some = images[start : start + at_once]
        n = len(some)
        np.copyto(colours[:n], some.reshape(n, channels, -1))
        np.einsum("c,ncp->np", _GREY if channels == 3 else _ONE, colours[:n], out=grey[:n])
        np.matmul(grey[:n].reshape(-1, side), basis, out=across[: n * side])
        np.copyto(turned[:n], across[: n * side].reshape(n, side, -1).transpose(0, 2, 1))
        np.matmul(turned[:n].reshape(-1, side), basis, out=spectra[start : start + n].reshape(-1, frequencies))
    return spectra


@lru_cache(maxsize=4)
def _cosines(side: int) -> np.ndarray:
    """Return the lowest K basis vectors of the discrete cosine transform (type II), float32 (S, K), of norm 1."""
    frequencies = np.arange(min(_FREQUENCIES, side))
    places = np.arange(side)[:, None]
    basis = np.sqrt(2 / side) * np.cos(np.pi * (2 * places + 1) * frequencies / (2 * side))
    basis[:, 0] = np.sqrt(1 / side)
    return basis.astype(np.float32)
