"""Features of images that need no training: the pixels, averaged over squares."""

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE = 8
"""Most squares in a row or column."""


class PixelMeans(nn.Module):
    """Averages the pixels of each channel over at most 8x8 squares."""

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return features float32 (B, C * squares) of uint8 images (B, C, H, W)."""
        height, width = images_BCHW.shape[2:]
        squares = min(SIDE, height), min(SIDE, width)
        return functional.adaptive_avg_pool2d(images_BCHW.to(torch.float32) / 255, squares).flatten(1)
