"""EDM's augmentation. The network is conditioned on it, and sampling requests images without augmentation.

Written from Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022, appendix F.2
and table 6), and, for the filtered resampling, from Karras et al., "Training Generative Adversarial Networks with
Limited Data" (2020, appendix B). Positions are (x, y) in pixels from the centre of the image; y points downwards.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from dpt_ray.core.diffusion.denoiser import per_image
from dpt_ray.core.row_random import RowRandom

NUM_CONDITIONS = 9
"""Length of the vector that describes the augmentation of an image; it is zero for an unchanged image."""

SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
"""The scaling filter of Daubechies' least asymmetric orthonormal wavelet with six vanishing moments."""

CENTRE = 5
"""Index of the tap that counts as the centre of the filter, as in the official code. The centre of mass is at 5.098. So
an image that is resampled at fractions of pixels is shifted by up to a twentieth of a pixel."""

SCALE_BASE = 2**0.2
TRANSLATION = 1 / 8
"""Standard deviation of a shift, as a fraction of the image's side."""

ALONG_AXIS = 0.5
"""Probability that a stretch is horizontal or vertical; otherwise its direction is uniform."""


@dataclass(frozen=True)
class Augmentation:
    """Mirroring, scaling, rotation, stretching and shifting, drawn independently for each image.

    Attributes:
        probability: probability of each kind of change for an image, in [0, 1].
        horizontal_flip: mirror each image left to right with probability 1/2, independent of `probability`.
    """

    probability: float
    horizontal_flip: bool

    def __call__(self, images: Tensor, random: RowRandom) -> tuple[Tensor, Tensor]:
        """Return augmented images (B, C, H, W), and vectors that describe the augmentation (B, `NUM_CONDITIONS`)."""
        drawn = self._draw(random)
        images = torch.where(per_image(drawn.flip_x > 0), images.flip(3), images)
        images = torch.where(per_image(drawn.flip_y > 0), images.flip(2), images)
        moved, positions = drawn.moved(), drawn.source_positions(images.shape[3], images.shape[2])
        if images.device.type == "cpu" and not torch.compiler.is_compiling():
            rows = moved.nonzero().squeeze(1)
            if len(rows) > 0:  # the least work on a CPU
                images = images.clone()
                images[rows] = resample(images[rows], positions[rows])
        else:  # a selection of rows would wait for the device, and a CUDA graph needs constant shapes
            images = torch.where(per_image(moved), resample(images, positions), images)
        return images, drawn.conditions()

    def _draw(self, random: RowRandom) -> "_Draws":
        uniform = random.uniform(10)
        applied = (uniform[:, :5] < self.probability).float()
        tilted = (uniform[:, 5] >= ALONG_AXIS).float()
        sides = (uniform[:, 6:8] < 0.5).float()
        angles = (uniform[:, 8:] * 2 - 1) * math.pi
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
    """a_0 to a_7 of table 6 for each row, zero where a kind is not applied; `shift` is (B, 2), the others are (B,)."""

    flip_x: Tensor
    flip_y: Tensor
    scale: Tensor
    rotation: Tensor
    stretch_direction: Tensor
    stretch: Tensor
    shift: Tensor

    def conditions(self) -> Tensor:
        """Return the conditioning vectors of table 6, (B, `NUM_CONDITIONS`)."""
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
        """Return bool (B,), true for rows that need resampling."""
        return (self.scale != 0) | (self.rotation != 0) | (self.stretch != 0) | (self.shift != 0).any(1)

    def source_positions(self, width: int, height: int) -> Tensor:
        """Return affine maps (B, 2, 3) from positions in the augmented image to positions in the original.

        An image is scaled, then rotated, then stretched, then shifted. Positive angles turn it counter-clockwise on the
        screen. That is a negative angle in these coordinates, since y points downwards (table 6: ROTATE2D(-a_3)).
        """
        along, across = SCALE_BASE**-self.stretch, SCALE_BASE**self.stretch
        unstretch = _turn(-self.stretch_direction) @ _diagonal(along, across) @ _turn(self.stretch_direction)
        shrink = _diagonal(SCALE_BASE**-self.scale, SCALE_BASE**-self.scale)
        linear = shrink @ _turn(self.rotation) @ unstretch
        shift = torch.stack([self.shift[:, 0] * width, self.shift[:, 1] * height], dim=1) * TRANSLATION
        return torch.cat([linear, -linear @ shift[:, :, None]], dim=2)


def resample(images: Tensor, source_positions: Tensor) -> Tensor:
    """Resample images at affinely mapped positions.

    Images are interpolated at twice their resolution and low-pass filtered, to avoid blur and aliasing. Beyond its
    borders an image is mirrored by its own size less one pixel; the rest is 0. A shift by whole pixels is exact, since
    the wavelet's filters are orthonormal (for images of at least 6 pixels).

    Args:
        images: (B, C, H, W) float.
        source_positions: (B, 2, 3) affine maps from positions in the result to positions in the images, in pixels.

    Returns:
        (B, C, H, W) resampled images.
    """
    height, width = images.shape[2:]
    taps = _taps(images.dtype, images.device)
    wide = functional.pad(images, (width - 1, width - 1, height - 1, height - 1), mode="reflect")
    fine = _upsample(wide, taps)[:, :, CENTRE:-CENTRE, CENTRE:-CENTRE]  # sample 2 k lies on pixel k

    def positions(side: int) -> Tensor:
        # The input of `_downsample` starts `CENTRE` samples before the first pixel.
        samples = torch.arange(2 * side + len(taps) - 2, dtype=images.dtype, device=images.device)
        return (samples - CENTRE) / 2 - (side - 1) / 2

    # (rows, columns, 2)
    targets = torch.stack(torch.meshgrid(positions(width), positions(height), indexing="xy"), dim=2)
    sources = torch.einsum("bij,yxj->byxi", source_positions[:, :, :2], targets) + source_positions[:, None, None, :, 2]
    axes = zip(sources.unbind(3), (3, 2), strict=True)  # x along the columns, y along the rows
    grid = torch.stack(
        [2 * (at + (wide.shape[side] - 1) / 2) / (fine.shape[side] - 1) * 2 - 1 for at, side in axes], dim=3
    )
    moved = functional.grid_sample(fine, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return _downsample(moved, taps)


@cache
def _taps(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return `SYM6` on a device, copied once: a copy in a CUDA graph would read memory that is free by then."""
    return torch.tensor(SYM6, dtype=torch.float64).to(dtype).to(device)


def _upsample(images: Tensor, taps: Tensor) -> Tensor:
    """Interpolate: (B, C, H, W) -> (B, C, 2 H + 10, 2 W + 10), with the same mean level."""
    channels = images.shape[1]
    kernel = (taps * math.sqrt(2)).repeat(channels, 1, 1, 1)
    images = functional.conv_transpose2d(images, kernel, stride=(1, 2), groups=channels)
    return functional.conv_transpose2d(images, kernel.mT, stride=(2, 1), groups=channels)


def _downsample(images: Tensor, taps: Tensor) -> Tensor:
    """Filter and decimate: the inverse of `_upsample`."""
    channels = images.shape[1]
    kernel = (taps / math.sqrt(2)).repeat(channels, 1, 1, 1)
    images = functional.conv2d(images, kernel, stride=(1, 2), groups=channels)
    return functional.conv2d(images, kernel.mT, stride=(2, 1), groups=channels)


def _turn(angle: Tensor) -> Tensor:
    """Return rotation matrices (B, 2, 2) of angles (B,) in radians."""
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cosine, -sine], dim=1), torch.stack([sine, cosine], dim=1)], dim=1)


def _diagonal(first: Tensor, second: Tensor) -> Tensor:
    """Return diagonal matrices (B, 2, 2) of entries (B,)."""
    return torch.diag_embed(torch.stack([first, second], dim=1))
