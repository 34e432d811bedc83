"""EDM's augmentation: images are changed, the network is told how, and sampling asks for unchanged ones.

Written from Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022, appendix F.2
and table 6), and, for the filtered resampling, from Karras et al., "Training Generative Adversarial Networks with
Limited Data" (2020, appendix B). Positions are (x, y) in pixels from the image's centre, y downwards.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dpt_ray.core.diffusion.denoiser import per_image
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.transfer import to_device

NUM_CONDITIONS = 9
"""Numbers that describe what was done to an image; all zero: nothing."""

SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
"""The scaling filter of Daubechies' least asymmetric orthonormal wavelet with six vanishing moments."""

CENTRE = 5
"""The tap that counts as the filter's middle, as in the official code. The filter's centre of mass is at 5.098, so an
image that is not moved by whole pixels moves by up to a twentieth of a pixel."""

SCALE_BASE = 2**0.2
TRANSLATION = 1 / 8
"""Standard deviation of a shift, as a share of the image's side."""

ALONG_AXIS = 0.5
"""Share of the stretched images that are stretched along an axis, horizontally or vertically; the others in any
direction."""


@dataclass(frozen=True)
class Augmentation:
    """Mirroring, scaling, rotating, stretching and shifting, each drawn for each image by itself.

    Attributes:
        probability: of each kind, for an image.
        horizontal_flip: mirror half of the images left to right, whatever `probability` says.
    """

    probability: float
    horizontal_flip: bool

    def __call__(self, images: Tensor, random: RowRandom) -> tuple[Tensor, Tensor]:
        """Change images (B, C, H, W); return them with the description of each change, (B, `NUM_CONDITIONS`)."""
        drawn = self._draw(random.on_host())  # the host knows what moves without waiting for the device
        device = images.device
        images = torch.where(per_image(to_device(drawn.flip_x > 0, device)), images.flip(3), images)
        images = torch.where(per_image(to_device(drawn.flip_y > 0, device)), images.flip(2), images)
        moved = drawn.moved().nonzero().squeeze(1)
        if len(moved) > 0:  # the others keep their pixels to the bit
            positions = to_device(drawn.source_positions(images.shape[3], images.shape[2])[moved], device)
            moved = to_device(moved, device)
            images = images.clone()
            images[moved] = resample(images[moved], positions)
        return images, to_device(drawn.conditions(), device)

    def _draw(self, random: RowRandom) -> "_Draws":
        uniform = random.uniform(6)
        applied = (uniform[:, :5] < self.probability).float()
        tilted = (uniform[:, 5] >= ALONG_AXIS).float()
        sides = random.integers(2, 2).float()
        angles = (random.uniform(2) * 2 - 1) * math.pi
        normals = random.normal(4)
        return _Draws(
            flip_x=sides[:, 0] * float(self.horizontal_flip),
            flip_y=sides[:, 1] * applied[:, 0],
            scale=normals[:, 0] * applied[:, 1],
            rotation=angles[:, 0] * applied[:, 2],
            stretch_direction=angles[:, 1] * tilted,
            stretch=normals[:, 1] * applied[:, 3],
            shift=normals[:, 2:] * applied[:, 4:],
        )


@dataclass(frozen=True)
class _Draws:
    """Table 6's a_0 to a_7 for each row, zero where a kind is not applied; `shift` is (B, 2), the others (B,)."""

    flip_x: Tensor
    flip_y: Tensor
    scale: Tensor
    rotation: Tensor
    stretch_direction: Tensor
    stretch: Tensor
    shift: Tensor

    def conditions(self) -> Tensor:
        """Return table 6's conditioning vector, (B, `NUM_CONDITIONS`)."""
        columns = [
            self.flip_x,
            self.flip_y,
            self.scale,
            self.rotation.cos() - 1,
            self.rotation.sin(),
            self.stretch * self.stretch_direction.cos(),
            self.stretch * self.stretch_direction.sin(),
        ]
        return torch.cat([torch.stack(columns, dim=1), self.shift], dim=1)

    def moved(self) -> Tensor:
        """Return which rows need resampling, bool (B,)."""
        return (self.scale != 0) | (self.rotation != 0) | (self.stretch != 0) | (self.shift != 0).any(1)

    def source_positions(self, width: int, height: int) -> Tensor:
        """Return (B, 2, 3) matrices from a position in the changed image to the one it comes from.

        An image is scaled, then rotated, then stretched, then shifted. Positive angles turn it counter-clockwise as
        it is seen, which is negative where y points downwards (table 6: ROTATE2D(-a_3)).
        """
        along, across = SCALE_BASE**-self.stretch, SCALE_BASE**self.stretch
        unstretch = _turn(-self.stretch_direction) @ _diagonal(along, across) @ _turn(self.stretch_direction)
        shrink = _diagonal(SCALE_BASE**-self.scale, SCALE_BASE**-self.scale)
        linear = shrink @ _turn(self.rotation) @ unstretch
        shift = self.shift * torch.tensor([width, height]) * TRANSLATION
        return torch.cat([linear, -linear @ shift[:, :, None]], dim=2)


def resample(images: Tensor, source_positions: Tensor) -> Tensor:
    """Read each pixel from another position, at twice the resolution in between so that little is lost.

    The image is continued by its mirror image on every side, one pixel short of its own width; beyond is black, which
    is 0. Where all positions move by whole pixels the result is exact, since the wavelet's filters are orthonormal (for
    images of at least 6 pixels).

    Args:
        images: (B, C, H, W) float.
        source_positions: (B, 2, 3), from positions in the result to positions in the images.

    Returns:
        (B, C, H, W).
    """
    height, width = images.shape[2:]
    taps = to_device(torch.tensor(SYM6, dtype=torch.float64).to(images.dtype), images.device)
    wide = functional.pad(images, (width - 1, width - 1, height - 1, height - 1), mode="reflect")
    fine = _upsample(wide, taps)[:, :, CENTRE:-CENTRE, CENTRE:-CENTRE]  # sample 2 k is at pixel k; two for each pixel

    def positions(side: int) -> Tensor:
        # What `_downsample` takes begins `CENTRE` samples before the first pixel.
        samples = torch.arange(2 * side + len(taps) - 2, dtype=images.dtype, device=images.device)
        return (samples - CENTRE) / 2 - (side - 1) / 2

    # (rows, columns, 2)
    targets = torch.stack(torch.meshgrid(positions(width), positions(height), indexing="xy"), dim=2)
    sources = torch.einsum("bij,yxj->byxi", source_positions[:, :, :2], targets) + source_positions[:, None, None, :, 2]
    lasts = torch.tensor([[wide.shape[3] - 1, wide.shape[2] - 1], [fine.shape[3] - 1, fine.shape[2] - 1]])
    middle, last = to_device(lasts.to(images.dtype), images.device)
    grid = 2 * (sources + middle / 2) / last * 2 - 1
    moved = functional.grid_sample(fine, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return _downsample(moved, taps)


def _upsample(images: Tensor, taps: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 2 H + 10, 2 W + 10), of the same brightness."""
    channels = images.shape[1]
    kernel = (taps * math.sqrt(2)).repeat(channels, 1, 1, 1)
    images = functional.conv_transpose2d(images, kernel, stride=(1, 2), groups=channels)
    return functional.conv_transpose2d(images, kernel.mT, stride=(2, 1), groups=channels)


def _downsample(images: Tensor, taps: Tensor) -> Tensor:
    """Undo `_upsample`."""
    channels = images.shape[1]
    kernel = (taps / math.sqrt(2)).repeat(channels, 1, 1, 1)
    images = functional.conv2d(images, kernel, stride=(1, 2), groups=channels)
    return functional.conv2d(images, kernel.mT, stride=(2, 1), groups=channels)


def _turn(angle: Tensor) -> Tensor:
    """Rotation matrices (B, 2, 2)."""
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cosine, -sine], dim=1), torch.stack([sine, cosine], dim=1)], dim=1)


def _diagonal(first: Tensor, second: Tensor) -> Tensor:
    """Diagonal matrices (B, 2, 2)."""
    return torch.diag_embed(torch.stack([first, second], dim=1))
