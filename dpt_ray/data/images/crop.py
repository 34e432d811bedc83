"""Crops images of any size to squares, as ADM prepares ImageNet."""

import numpy as np
from PIL import Image


def centre_crop(pixels: np.ndarray, size: int, max_pixels: int) -> np.ndarray:
    """Resize the short side of an image to `size` and crop the centre.

    The image is halved by box filtering while its short side is at least twice `size`, then resized
    bicubically with antialiasing (Dhariwal and Nichol 2021, data preparation).

    Args:
        pixels: uint8 (H, W, C), C in {1, 3}.
        size: height and width in pixels of the result.
        max_pixels: most pixels of the resized image.

    Returns:
        uint8 (C, size, size), which may be a view of `pixels`. Values differ from those of Pillow's filters by at most
        one level: torch does the last resize, and rounds its weights to 16 bits.

    Raises:
        ValueError: the image is so narrow that it would have more than `max_pixels` once resized.
    """
    if min(pixels.shape[:2]) >= 2 * size:
        pixels = to_array(halve(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), size))
    height, width, _ = pixels.shape
    scale = size / min(height, width)
    height, width = round(height * scale), round(width * scale)
    if width * height > max_pixels:
        raise ValueError(f"too narrow: its short side would be enlarged {scale:g} times")
    fits = pixels.shape[:2] == (height, width)
    planes = pixels.transpose(2, 0, 1) if fits else _resized(pixels, height, width)
    top, left = (height - size) // 2, (width - size) // 2
    return planes[:, top : top + size, left : left + size]


def to_array(image: Image.Image) -> np.ndarray:
    """Return the pixels of an 8-bit image in grey or RGB as uint8 (H, W, C), C in {1, 3}."""
    return np.array(image).reshape(image.height, image.width, -1)


def halve(image: Image.Image, size: int) -> Image.Image:
    """Halve an image by box filtering while its short side stays at least `size`.

    This is the first step of `centre_crop`, for an image that is still Pillow's. To halve it first saves the NumPy copy
    of a large image, which takes three bytes a pixel.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    return image


def _resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize uint8 (H, W, C) to uint8 (C, height, width)."""
    import torch  # slow to import and large in memory, and not needed for images of the right size

    image = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)  # torch recognises this as channels-last memory
    resized = torch.nn.functional.interpolate(image, (height, width), mode="bicubic", antialias=True)
    return resized[0].numpy()
