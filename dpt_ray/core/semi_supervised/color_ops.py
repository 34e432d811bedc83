"""Batched colour operations that give Pillow's results (`ImageOps`, `ImageEnhance`).

Every function maps uint8 images (B, C, H, W), C = 1 or 3, and one magnitude per row, float (B,), to new images of the
same shape. Rows are independent of each other. The rounding is Pillow's: table operations truncate, enhancements blend
in float32 and truncate.
"""

import torch
from torch import Tensor
from torch.nn import functional


def identity(images: Tensor, magnitude: Tensor) -> Tensor:
    """Return the images unchanged; `magnitude` is ignored."""
    return images


def autocontrast(images: Tensor, magnitude: Tensor) -> Tensor:
    """Stretch every channel to 0..255 (`ImageOps.autocontrast`); `magnitude` is ignored."""
    low, high = torch.aminmax(images.flatten(2), dim=2)
    low, high = low[..., None, None].double(), high[..., None, None].double()
    # torch computes `255.0 / x` as a product with the reciprocal, which rounds once more than Pillow does.
    scale = torch.full_like(low, 255).div((high - low).clamp_min(1))
    stretched = (images.double() * scale + -low * scale).clamp(0, 255).to(torch.uint8)
    return torch.where(high > low, stretched, images)


def equalize(images: Tensor, magnitude: Tensor) -> Tensor:
    """Flatten every channel's histogram (`ImageOps.equalize`); `magnitude` is ignored.

    The table's step is an integer number of pixels per grey level. So a channel with fewer than 255 pixels below its
    brightest value stays unchanged, as in every 8x8 image.
    """
    pixels = images.flatten(2).long()
    histogram = torch.zeros(*pixels.shape[:2], 256, dtype=torch.long, device=images.device)
    histogram.scatter_add_(2, pixels, torch.ones_like(pixels))
    brightest = histogram.gather(2, pixels.amax(2, keepdim=True))
    step = (pixels.shape[2] - brightest) // 255
    darker = histogram.cumsum(2) - histogram
    table = ((darker + step // 2) // step.clamp_min(1)).clamp_max(255)
    equalized = table.gather(2, pixels).to(torch.uint8).view_as(images)
    return torch.where(step[..., None] > 0, equalized, images)


def posterize(images: Tensor, magnitude: Tensor) -> Tensor:
    """Keep the highest floor(`magnitude`) bits, 1..8, of every value (`ImageOps.posterize`)."""
    dropped = 8 - magnitude.long().clamp(1, 8)
    mask = (256 - (torch.ones_like(dropped) << dropped)).to(torch.uint8)
    return images & mask[:, None, None, None]


def solarize(images: Tensor, magnitude: Tensor) -> Tensor:
    """Invert the values at or above `magnitude`, in grey levels (`ImageOps.solarize`)."""
    return torch.where(images >= magnitude[:, None, None, None], 255 - images, images)


def brightness(images: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with black; `magnitude` 1 keeps the image (`ImageEnhance.Brightness`)."""
    return _blend(torch.zeros_like(images[:, :1, :1, :1]), images, magnitude)


def color(images: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with the grey image; `magnitude` 1 keeps the image (`ImageEnhance.Color`)."""
    return _blend(_grey(images), images, magnitude)


def contrast(images: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with the image's mean grey; `magnitude` 1 keeps the image (`ImageEnhance.Contrast`)."""
    total = _grey(images).long().sum(dim=(1, 2, 3), keepdim=True)
    mean = (total.double() / images[0, 0].numel() + 0.5).to(torch.uint8)
    return _blend(mean, images, magnitude)


def sharpness(images: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with a smoothed image; `magnitude` 1 keeps the image (`ImageEnhance.Sharpness`).

    The 3x3 smoothing kernel has 5 in the centre and 1 elsewhere, divided by 13. Border pixels are not smoothed.
    """
    # float32 represents these sums of small integers exactly, so they are the same on every device.
    values = images.float()
    total = functional.avg_pool2d(values, 3, stride=1, divisor_override=1) + 4 * values[..., 1:-1, 1:-1]
    smooth = images.clone()
    smooth[..., 1:-1, 1:-1] = (2 * total.round().int() + 13).div(26, rounding_mode="floor").to(torch.uint8)
    return _blend(smooth, images, magnitude)


def _grey(images: Tensor) -> Tensor:
    """Luma of ITU-R 601-2 as Pillow's `convert("L")` rounds it, uint8 (B, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.int().split(1, dim=1)
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).to(torch.uint8)


def _blend(degenerate: Tensor, images: Tensor, magnitude: Tensor) -> Tensor:
    """degenerate + magnitude * (images - degenerate), truncated; `magnitude` in [0, 1]."""
    start = degenerate.float()
    return (start + magnitude.float()[:, None, None, None] * (images.float() - start)).to(torch.uint8)
