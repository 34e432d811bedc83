"""Batched geometric operations on uint8 images (B, C, H, W) that give Pillow's results.

Rotation, shear and translation equal `Image.rotate` and `Image.transform(size, AFFINE, ...)` with their defaults:
nearest pixel, black outside. There is one magnitude per row, float (B,).
"""

import torch
from torch import Tensor

FIXED_POINT_BITS = 16


def rotate(images: Tensor, magnitude: Tensor) -> Tensor:
    """Rotate counter-clockwise around the centre by `magnitude` degrees (`Image.rotate`)."""
    height, width = images.shape[2:]
    angle = -torch.deg2rad(magnitude.double())
    cosine, sine = angle.cos(), angle.sin()
    x0 = width / 2 - cosine * (width / 2) - sine * (height / 2)
    y0 = height / 2 + sine * (width / 2) - cosine * (height / 2)
    return _affine(images, torch.stack([cosine, sine, x0, -sine, cosine, y0], dim=1))


def shear_x(images: Tensor, magnitude: Tensor) -> Tensor:
    """Read pixel (x, y) from (x + `magnitude` y, y)."""
    return _affine(images, _identity_matrix(magnitude, 1, magnitude))


def shear_y(images: Tensor, magnitude: Tensor) -> Tensor:
    """Read pixel (x, y) from (x, y + `magnitude` x)."""
    return _affine(images, _identity_matrix(magnitude, 3, magnitude))


def translate_x(images: Tensor, magnitude: Tensor) -> Tensor:
    """Read pixel (x, y) from x + `magnitude` widths."""
    return _affine(images, _identity_matrix(magnitude, 2, magnitude.double() * images.shape[3]))


def translate_y(images: Tensor, magnitude: Tensor) -> Tensor:
    """Read pixel (x, y) from y + `magnitude` heights."""
    return _affine(images, _identity_matrix(magnitude, 5, magnitude.double() * images.shape[2]))


def crop_and_flip(images: Tensor, left: Tensor, top: Tensor, flip: Tensor) -> Tensor:
    """Mirror the rows where `flip` is set, then shift, reflecting at the edges.

    Args:
        images: (B, C, H, W).
        left: int64 (B,), columns to shift by, |left| < W; pixel x is read from x + left.
        top: int64 (B,), rows to shift by, |top| < H.
        flip: bool (B,), whether to mirror left and right before shifting.

    Returns:
        New images of the same shape.
    """
    height, width = images.shape[2:]
    x = _reflect(torch.arange(width, device=images.device) + left[:, None], width)
    x = torch.where(flip[:, None], width - 1 - x, x)
    y = _reflect(torch.arange(height, device=images.device) + top[:, None], height)
    return _gather(images, y[:, :, None] * width + x[:, None, :])


def cut_out(images: Tensor, side: Tensor, center_x: Tensor, center_y: Tensor, fill: Tensor) -> Tensor:
    """Paint one square a row (DeVries & Taylor 2017), clipped at the image's edges.

    As in the published runs, the square includes its end pixels, so its side is at least one pixel.

    Args:
        images: (B, C, H, W).
        side: (B,), side of the square in pixels.
        center_x: (B,), centre in [0, W), in pixels.
        center_y: (B,), centre in [0, H), in pixels.
        fill: uint8 (C,), the colour of the square.

    Returns:
        New images of the same shape.
    """
    height, width = images.shape[2:]
    inside_x = _inside(torch.arange(width, device=images.device), center_x, side, width)
    inside_y = _inside(torch.arange(height, device=images.device), center_y, side, height)
    inside = (inside_y[:, :, None] & inside_x[:, None, :])[:, None]
    return torch.where(inside, fill[:, None, None], images)


def _inside(position: Tensor, center: Tensor, side: Tensor, size: int) -> Tensor:
    first = (center - side / 2).clamp_min(0).floor()
    last = (first + side).clamp_max(size).floor()
    return (position >= first[:, None]) & (position <= last[:, None])


def _reflect(position: Tensor, size: int) -> Tensor:
    """Reflect positions outside [0, size) at the edge pixels, without repeating those."""
    return (size - 1) - ((size - 1) - position.abs()).abs()


def _identity_matrix(magnitude: Tensor, entry: int, value: Tensor) -> Tensor:
    """Affine coefficients (B, 6) of the identity with one entry replaced."""
    matrix = torch.eye(2, 3, dtype=torch.float64, device=magnitude.device).flatten().repeat(len(magnitude), 1)
    matrix[:, entry] = value.double()
    return matrix


def _affine(images: Tensor, matrix: Tensor) -> Tensor:
    """Read pixel (x, y) from (a x + b y + c, d x + e y + f), matrix = (a, b, c, d, e, f) float64 (B, 6).

    Coordinates refer to pixel centres, in 16-bit fixed point as in Pillow. So the nearest pixel is Pillow's even where
    two pixels are almost equally near.
    """
    height, width = images.shape[2:]
    a, b, c, d, e, f = matrix.unbind(1)
    center = torch.stack([c + a * 0.5 + b * 0.5, f + d * 0.5 + e * 0.5, a, b, d, e])
    x0, y0, a, b, d, e = (center * 2**FIXED_POINT_BITS + 0.5).floor().long()[..., None, None].unbind(0)
    row = torch.arange(height, device=images.device)[:, None]
    column = torch.arange(width, device=images.device)
    x = (x0 + b * row + a * column) >> FIXED_POINT_BITS
    y = (y0 + e * row + d * column) >> FIXED_POINT_BITS
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return _gather(images, torch.where(inside, y * width + x, 0)) * inside[:, None]


def _gather(images: Tensor, index: Tensor) -> Tensor:
    """Gather pixels by flat index, int64 (B, H, W), which applies to all channels."""
    channels = images.shape[1]
    flat = index.flatten(1)[:, None].expand(-1, channels, -1)
    return images.flatten(2).gather(2, flat).view_as(images)
