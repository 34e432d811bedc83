"""Pixel values: from stored bytes to network inputs, and back."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Scale uint8 images (B, C, H, W) to [0, 1], subtract `mean`, divide by `std`; float32.

    Args:
        images: uint8 (B, C, H, W).
        mean: channel means of images in [0, 1], C values.
        std: channel standard deviations of images in [0, 1], C values > 0.

    Raises:
        ValueError: `mean` or `std` does not have C values.
    """
    channels = images.shape[1]
    if len(mean) != channels or len(std) != channels:
        raise ValueError(f"mean and std need {channels} values, one per channel, got {len(mean)} and {len(std)}")
    scale, shift = _scale_and_shift(tuple(mean), tuple(std), images.device)
    return images * scale - shift


@cache
def _scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return 1 / (255 std) and mean / std, (C, 1, 1): one multiplication and one subtraction.

    They are copied to a device once. A copy in a CUDA graph would read memory that is free by then.
    """
    folded = torch.tensor([[1 / (255 * s) for s in std], [m / s for m, s in zip(mean, std, strict=True)]])
    scale, shift = folded.to(device)[..., None, None]
    return scale, shift


def from_uint8(images: Tensor) -> Tensor:
    """Map uint8 pixels 0..255 to float32 in [-1, 1]."""
    return images.to(torch.float32) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Map [-1, 1] to the nearest uint8 pixel and clamp other values; the inverse of `from_uint8`.

    Raises:
        ValueError: an image has NaN or infinite pixels, which a diverged network generates.
    """
    if not torch.isfinite(images).all():
        raise ValueError("images have NaN or infinite pixels: the generator that made them has diverged")
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
