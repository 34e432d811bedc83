"""Make image files that look like a folder of photographs: coloured scenes of several sizes, as JPEG and PNG.

The tests download no photograph, so five kinds of scenes are drawn: objects of one shape with texture on textured
backgrounds. Colours, positions, sizes, light and number of objects vary within a class, so no single pixel or mean
colour shows the class.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = ((160, 120), (120, 160), (200, 200))
"""Widths and heights in pixels."""

Mask = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""From centred coordinates in units of the object's radius to the share of a pixel that the object covers, 0 to 1."""


def _soft(distance: np.ndarray) -> np.ndarray:
    """Return the cover of an object whose rim is at distance 0 and whose inside is negative."""
    cover: np.ndarray = np.clip(0.5 - distance * 10, 0, 1)
    return cover


def _round(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return _soft(np.hypot(x, y * random.uniform(0.9, 1.1)) - 1)


def _ring(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return _soft(np.abs(np.hypot(x, y) - 0.75) - random.uniform(0.15, 0.25))


def _stripes(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    inside = np.maximum(np.abs(x), np.abs(y)) - 1
    bars = np.sin(x * random.uniform(9, 13) + random.uniform(0, 6)) * 0.1
    return _soft(np.maximum(inside, bars))


def _flower(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    petals = random.integers(5, 8)
    rim = 0.65 + 0.35 * np.cos(petals * np.arctan2(y, x) + random.uniform(0, 6))
    return _soft(np.hypot(x, y) - rim)


def _tower(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    width = random.uniform(0.18, 0.3)
    cross = np.minimum(
        np.maximum(np.abs(x) - width, np.abs(y) - 1.2), np.maximum(np.abs(x) - 0.8, np.abs(y + 0.4) - width)
    )
    return _soft(cross)


SCENES: dict[str, Mask] = {
    "Äpfel rund": _round,
    "Bücher gestreift": _stripes,
    "Blüten": _flower,
    "Fahrrad räder": _ring,
    "Türme": _tower,
}
"""Name of a class -> shape of its objects. Names have spaces and umlauts, as people's folders have."""


def _texture(random: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Return smooth noise of two scales, (height, width), about -1 to 1."""
    noise = np.zeros((height, width))
    for cells, strength in ((4, 0.6), (16, 0.4)):
        small = Image.fromarray(random.uniform(-1, 1, (cells, cells)).astype(np.float32))
        noise += strength * np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
    return noise


def photograph(scene: str, seed: int) -> Image.Image:
    """Return one RGB picture of a class; the seed fixes it and its size."""
    random = np.random.default_rng([list(SCENES).index(scene), seed])
    width, height = SIZES[random.integers(len(SIZES))]
    background, light = random.uniform(40, 215, 3), random.uniform(0.75, 1.25)
    picture = background + 45 * _texture(random, width, height)[..., None] * random.uniform(0.5, 1, 3)
    down, across = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    for _ in range(random.integers(1, 4)):
        colour = random.uniform(0, 255, 3)
        while np.abs(colour - background).sum() < 150:
            colour = random.uniform(0, 255, 3)
        radius = random.uniform(0.2, 0.38) * min(width, height)
        middle = random.uniform(0.25, 0.75, 2) * (width, height)
        turn = random.uniform(-0.5, 0.5)
        x, y = (across - middle[0]) / radius, (down - middle[1]) / radius
        x, y = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        cover = SCENES[scene](x, y, random)[..., None]
        surface = colour + 25 * _texture(random, width, height)[..., None]
        picture += cover * (surface - picture)
    picture = picture * light + random.normal(0, 4, picture.shape)
    return Image.fromarray(picture.clip(0, 255).round().astype(np.uint8))


def write_photographs(folder: Path, per_class: int, first: int = 0, *, flat: bool = False) -> list[Path]:
    """Write photographs of every class, every third one as PNG; return their paths.

    Args:
        folder: where to write them; it is made.
        per_class: number for each class.
        first: number of the first one; photographs of different numbers differ.
        flat: whether to write all of them into `folder` itself instead of a folder for each class.
    """
    written = []
    for scene in SCENES:
        place = folder if flat else folder / scene
        place.mkdir(parents=True, exist_ok=True)
        for number in range(first, first + per_class):
            name = f"{scene[:2]} {number}" if flat else f"Foto {number}"
            path = place / f"{name}.{'png' if number % 3 == 0 else 'JPG'}"
            photograph(scene, number).save(path, "PNG" if path.suffix == ".png" else "JPEG", quality=90)
            written.append(path)
    return written
