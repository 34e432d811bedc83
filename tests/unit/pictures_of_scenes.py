"""Pictures for tests of hashes: smooth scenes with edges, as photographs have, every one another."""

import io

import numpy as np
from PIL import Image


def scenes(count: int, size: int, *, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Return uint8 (count, channels, size, size)."""
    random = np.random.default_rng(seed)
    down, across = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size), indexing="ij")
    images = np.empty((count, channels, size, size))
    for image in images:
        image[:] = random.uniform(60, 190, (channels, 1, 1))
        for _ in range(12):  # discs of other colours, with soft rims
            middle, radius = random.uniform(0, 1, 2), random.uniform(0.05, 0.35)
            rim = np.clip((radius - np.hypot(down - middle[0], across - middle[1])) * 12 + 0.5, 0, 1)
            image += rim * (random.uniform(0, 255, (channels, 1, 1)) - image)
    return images.round().astype(np.uint8)


def as_pillow(image: np.ndarray) -> Image.Image:
    """Return uint8 (C, H, W) as a Pillow image."""
    return Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))


def as_array(image: Image.Image, channels: int = 3) -> np.ndarray:
    """Return a Pillow image as uint8 (C, H, W)."""
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def as_jpeg(image: np.ndarray, quality: int) -> bytes:
    """Return uint8 (C, H, W) as JPEG."""
    buffer = io.BytesIO()
    as_pillow(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
