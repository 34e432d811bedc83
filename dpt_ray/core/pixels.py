"""Pixel values: from stored bytes to network inputs, and back."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dpt_ray.core.transfer import device_constant


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
    # One multiplication and one subtraction: x / (255 std) - mean / std.
    folded = (*(1 / (255 * s) for s in std), *(m / s for m, s in zip(mean, std, strict=True)))
    # An exported graph holds the numbers themselves; it is traced on the CPU.
    on_host = images.device.type == "cpu"
    numbers = torch.tensor(folded) if on_host else device_constant(folded, torch.float32, images.device)
    scale, shift = numbers.view(2, channels, 1, 1)
    return images * scale - shift


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
