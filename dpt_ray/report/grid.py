"""Sample images as one PNG, a row a class.

Shape letters: R classes (rows), K images of a class, C channels, H and W pixels.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dpt_ray.report.image_content import SampleGrid

TILE_PIXELS = 64
MAX_TILE_PIXELS = 96
GAP_PIXELS = 2

_FONT_PIXELS = 15
_MAX_LABEL_PIXELS = 180
# Readable on white and on black (contrast 4.5 and 4.6), since the background is transparent.
_LABEL_GREY = 118


def grid_png(grid: SampleGrid, *, with_labels: bool = False) -> bytes:
    """Draw all images of `grid`, one row a class, on a transparent ground.

    Small images are enlarged by a whole factor without smoothing, so that each of their pixels is a square;
    images above `MAX_TILE_PIXELS` are averaged down. Half a gap surrounds every tile, so all rows have
    exactly the same height and a page can put its own labels beside the picture.

    Args:
        grid: the images.
        with_labels: write class names at the left, for a picture that stands alone.

    Returns:
        The PNG file; equal bytes for equal input.
    """
    tiles_RKHWC = fit_tiles(grid.images.transpose(0, 1, 3, 4, 2))
    picture = Image.fromarray(_mosaic(tiles_RKHWC))
    if with_labels:
        picture = _with_labels(picture, grid.class_names)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def fit_tiles(images_RKHWC: np.ndarray) -> np.ndarray:
    """Scale images by a whole factor (up) or a whole divisor (down) to about `TILE_PIXELS`."""
    side = max(images_RKHWC.shape[2:4])
    if side <= MAX_TILE_PIXELS:
        factor = max(1, TILE_PIXELS // side)
        return images_RKHWC.repeat(factor, axis=2).repeat(factor, axis=3)
    return _average_blocks(images_RKHWC, -(-side // MAX_TILE_PIXELS))


def _average_blocks(images_RKHWC: np.ndarray, block: int) -> np.ndarray:
    R, K, H, W, C = images_RKHWC.shape
    padding = [(0, 0), (0, 0), (0, -H % block), (0, -W % block), (0, 0)]
    padded = np.pad(images_RKHWC, padding, mode="edge")
    blocks = padded.reshape(R, K, padded.shape[2] // block, block, padded.shape[3] // block, block, C)
    averages: np.ndarray = np.rint(blocks.mean(axis=(3, 5))).astype(np.uint8)
    return averages


def _mosaic(tiles_RKHWC: np.ndarray) -> np.ndarray:
    """Return uint8 RGBA (rows, columns, 4), transparent between the tiles."""
    R, K, H, W = tiles_RKHWC.shape[:4]
    half = GAP_PIXELS // 2
    cells = np.zeros((R, K, H + GAP_PIXELS, W + GAP_PIXELS, 4), dtype=np.uint8)
    inner = cells[:, :, half : half + H, half : half + W]
    inner[..., :3] = tiles_RKHWC  # one channel spreads over three
    inner[..., 3] = 255
    return cells.transpose(0, 2, 1, 3, 4).reshape(R * (H + GAP_PIXELS), K * (W + GAP_PIXELS), 4)


def _with_labels(picture: Image.Image, class_names: Sequence[str]) -> Image.Image:
    row_height = picture.height // len(class_names)
    font = _font(min(_FONT_PIXELS, max(8, row_height - 2)))
    names = [_shorten(" ".join(name.split()), font) for name in class_names]
    margin = max((round(font.getlength(name)) for name in names), default=0) + 10
    labelled = Image.new("RGBA", (margin + picture.width, picture.height))
    labelled.paste(picture, (margin, 0))
    draw = ImageDraw.Draw(labelled)
    for row, name in enumerate(names):
        middle = row * row_height + row_height / 2
        draw.text((margin - 8, middle), name, font=font, fill=(_LABEL_GREY,) * 3 + (255,), anchor="rm")
    return labelled


def _shorten(name: str, font: ImageFont.FreeTypeFont) -> str:
    if font.getlength(name) <= _MAX_LABEL_PIXELS:
        return name
    while name and font.getlength(name + "\N{HORIZONTAL ELLIPSIS}") > _MAX_LABEL_PIXELS:
        name = name[:-1]
    return name.rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def _font(pixels: int) -> ImageFont.FreeTypeFont:
    # matplotlib carries this font, so pictures are the same on every machine and names beyond ASCII are drawn.
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", pixels)
