"""Encoded images to fixed-size uint8 arrays, and back to PNG."""

import io

import numpy as np
from PIL import Image, ImageOps

from dpt_ray.errors import UserError

MAX_PIXELS = 64_000_000
"""An image with more pixels is refused before it is decoded (decompression bombs)."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "GIF", "TIFF")


def decode_image(data: bytes, *, size: int, channels: int, where: str) -> np.ndarray:
    """Decode an image to uint8, (channels, size, size).

    An image of another size is centre-cropped as in `centre_crop`.

    Raises:
        UserError: not an image that Pillow reads, floating-point pixels, or more than `MAX_PIXELS`,
            given or once enlarged.
    """
    image = open_image(data, channels=channels, where=where)
    try:
        if image.size != (size, size):
            image = centre_crop(image, size)
    except ValueError as error:
        raise UserError(f"is not a readable image ({error})", where=where) from None
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def open_image(data: bytes, *, channels: int, where: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image of any size to 8-bit grey (1 channel) or RGB (3), upright and without transparency.

    Raises:
        UserError: not an image that Pillow reads, floating-point pixels, or more than `max_pixels`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise UserError(f"has {image.width}x{image.height} pixels; at most {max_pixels} are read", where=where)
            return _convert(ImageOps.exif_transpose(image), channels)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"is not a readable image ({error})", where=where) from None


def _convert(image: Image.Image, channels: int) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known")
    if image.mode.startswith("I"):  # 16-bit values; Pillow clips them instead of scaling
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """Bring the short side to `size` and crop the centre, as ADM prepares ImageNet.

    The image is halved by box filtering while its short side is at least twice `size`, then resized
    bicubically (Dhariwal and Nichol 2021, data preparation).
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    if width * height > MAX_PIXELS:
        raise ValueError(f"too narrow: its short side would be enlarged {scale:g} times")
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode uint8 (C, H, W), C in {1, 3}, as PNG; equal pixels give equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(buffer, "PNG")
    return buffer.getvalue()
