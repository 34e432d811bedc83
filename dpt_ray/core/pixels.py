"""Values of pixels: from stored bytes to what networks take, and back."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dpt_ray.core.transfer import to_device


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Scale uint8 images (B, C, H, W) to [0, 1], subtract `mean`, divide by `std`; float32.

    Args:
        images: uint8 images.
        mean: one value per channel, of images in [0, 1].
        std: one value per channel, of images in [0, 1], > 0.

    Raises:
        ValueError: `mean` or `std` has not one value per channel.
    """
    channels = images.shape[1]
    if len(mean) != channels or len(std) != channels:
        raise ValueError(f"mean and std need {channels} values, one per channel, got {len(mean)} and {len(std)}")
    # Folded into one multiplication and one addition: x / (255 std) - mean / std.
    folded = torch.tensor([[1 / (255 * s) for s in std], [m / s for m, s in zip(mean, std, strict=True)]])
    scale, shift = to_device(folded, images.device)[..., None, None]
    return images * scale - shift


def from_uint8(images: Tensor) -> Tensor:
    """Map pixels 0..255 to float32 in [-1, 1]."""
    return images.to(torch.float32) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Map [-1, 1] to the nearest pixel of 0..255, uint8, clamping what lies outside; undoes `from_uint8`.

    Raises:
        ValueError: an image has NaN or infinite pixels, as a diverged network makes.
    """
    if not torch.isfinite(images).all():
        raise ValueError("images have NaN or infinite pixels: the generator that made them has diverged")
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
