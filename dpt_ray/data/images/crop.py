"""Images of any size to squares, as ADM prepares ImageNet."""

import numpy as np
from PIL import Image


def centre_crop(pixels: np.ndarray, size: int, max_pixels: int) -> np.ndarray:
    """Bring the short side to `size` and crop the centre.

    The image is halved by box filtering while its short side is at least twice `size`, then resized
    bicubically with antialiasing (Dhariwal and Nichol 2021, data preparation).

    Args:
        pixels: uint8 (H, W, C).
        size: height and width of what is returned.
        max_pixels: more are never made of an image.

    Returns:
        uint8 (C, size, size), a view. Values are those of Pillow's filters to within one level: the last resize is
        torch's, which takes a fifth of the time and rounds its weights to 16 bits.

    Raises:
        ValueError: the image is so narrow that it would have more than `max_pixels` once enlarged.
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
    """Return an image halved by box filtering as often as its short side stays at least `size`.

    It is the first part of `centre_crop`, for an image that is none of NumPy's yet: each form of a large one takes
    three or four bytes a pixel.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    return image


def _resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return uint8 (C, height, width)."""
    import torch  # only here: processes that read images of the right size are spared its room and its start

    image = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)  # in this order it is known to have its channels last
    resized = torch.nn.functional.interpolate(image, (height, width), mode="bicubic", antialias=True)
    return resized[0].numpy()
