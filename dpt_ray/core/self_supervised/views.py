"""Random views of images: crop, rotation, mirroring, colours, grey, in one pass on the training device.

The distribution is that of SimCLR (Chen et al. 2020, appendix A) with these differences. There is no blur. Colours
change in a fixed order. Hue turns the chroma in YIQ. Rotation is an addition. All random numbers come from the rows'
own streams, so a row's views depend neither on other rows nor on the number of workers.
"""

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from dpt_ray.config.encoder_section import ViewsConfig
from dpt_ray.core.cuda_graph import GraphedFunction
from dpt_ray.core.row_random import RowRandom

_DRAWS = 12
"""Uniform numbers of a view."""
_RATIO = 4 / 3
"""Largest ratio of a crop's sides."""
_COLOURED = 0.8
"""Share of views with changed colours."""
_STRENGTHS = (0.8, 0.8, 0.8, 0.2)
"""Brightness, contrast, saturation, and hue as a part of the circle, at strength 1."""
_LUMA = (0.299, 0.587, 0.114)
_YIQ = torch.tensor([_LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])


@cache
def _chroma(device: torch.device) -> Tensor:
    """Return the maps (2, 3, 3) from RGB to luma and chroma, and back, copied to a device once."""
    return torch.stack([_YIQ, torch.linalg.inv(_YIQ)]).to(device)


class RandomViews:
    """Draws views of images.

    Args:
        config: the section `views`.
        scale: least and largest share of the image's area in a crop; that of `config` if None.
    """

    def __init__(self, config: ViewsConfig, scale: tuple[float, float] | None = None):
        self._config, self._scale = config, scale or config.scale
        self._view = GraphedFunction(self._transformed)

    def __call__(self, images: Tensor, random: RowRandom, count: int = 1, size: int | None = None) -> Tensor:
        """Return `count` views of every image, float32 (count, B, C, size, size), with values in 0..255.

        Args:
            images: uint8 (B, C, H, W), square; row i uses row i of `random`.
            random: the rows' streams.
            count: number of views of an image.
            size: height and width of a view in pixels; that of the images if None.
        """
        uniform = random.uniform(count, _DRAWS)
        side = torch.empty(size or images.shape[2], 0, device=images.device)  # its shape tells the size
        chroma = _chroma(images.device)
        return torch.stack([self._view(images, uniform[:, number], side, chroma) for number in range(count)])

    def _transformed(self, images: Tensor, uniform: Tensor, side: Tensor, chroma: Tensor) -> Tensor:
        size = len(side)
        grid = functional.affine_grid(self._crops(uniform), [*images.shape[:2], size, size], align_corners=False)
        views = functional.grid_sample(
            images.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False
        )
        return self._coloured(views, uniform[:, 6:], chroma)

    def _crops(self, uniform: Tensor) -> Tensor:
        """Return the affine maps (B, 2, 3) from coordinates of the view to those of the image, both in [-1, 1]."""
        area, ratio, x, y, turn, mirror = uniform[:, :6].unbind(1)
        low, high = self._scale
        area, ratio = low + (high - low) * area, torch.exp((2 * ratio - 1) * math.log(_RATIO))
        width, height = (area * ratio).sqrt().clamp_max(1), (area / ratio).sqrt().clamp_max(1)
        x, y = (2 * x - 1) * (1 - width), (2 * y - 1) * (1 - height)
        if self._config.flip:
            width = torch.where(mirror < 0.5, -width, width)
        angle = (2 * turn - 1) * math.radians(self._config.rotation)
        cosine, sine = angle.cos(), angle.sin()
        rows = [width * cosine, -height * sine, x, width * sine, height * cosine, y]
        return torch.stack(rows, dim=1).unflatten(1, (2, 3))

    def _coloured(self, views: Tensor, uniform: Tensor, chroma: Tensor) -> Tensor:
        """Change brightness, contrast, saturation and hue of most views, and take the colours of some."""
        config, colour = self._config, views.shape[1] == 3
        if config.color > 0:
            change = torch.where(uniform[:, 4:5] < _COLOURED, (2 * uniform[:, :4] - 1) * config.color, 0)
            changes = zip(change[..., None, None, None].unbind(1), _STRENGTHS, strict=True)
            brightness, contrast, saturation, hue = (value * strength for value, strength in changes)
            views = (views * (1 + brightness)).clamp(0, 255)
            mean = _grey(views).mean((2, 3), keepdim=True)
            views = (mean + (views - mean) * (1 + contrast)).clamp(0, 255)
            if colour:
                grey = _grey(views)
                views = _turned(grey + (views - grey) * (1 + saturation), hue[:, 0, 0, 0], chroma).clamp(0, 255)
        if config.grey > 0 and colour:
            views = torch.where((uniform[:, 5] < config.grey)[:, None, None, None], _grey(views), views)
        return views


def _grey(images: Tensor) -> Tensor:
    """Return the luma (B, 1, H, W) of images with 1 or 3 channels."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def _turned(images: Tensor, part: Tensor, chroma: Tensor) -> Tensor:
    """Turn the hues of RGB images by parts (B,) of the circle."""
    cosine, sine = (2 * math.pi * part).cos(), (2 * math.pi * part).sin()
    one, zero = torch.ones_like(part), torch.zeros_like(part)
    turn = torch.stack([one, zero, zero, zero, cosine, -sine, zero, sine, cosine], dim=1).unflatten(1, (3, 3))
    return torch.einsum("bij,bjhw->bihw", chroma[1] @ turn @ chroma[0], images)
