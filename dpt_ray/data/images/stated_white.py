"""The white level that an image file states."""

from PIL import ImageFile

from dpt_ray.data.images.deep_pixels import DeepPixels
from dpt_ray.data.images.white_level import FULL_WHITE

_BITS_PER_SAMPLE, PHOTOMETRIC, _LARGEST_TAGS = 258, 262, (281, 341)
_MOST_CHUNKS = 1000


def stated_white(image: ImageFile.ImageFile, data: bytes, pixels: DeepPixels) -> int | None:
    """Return the white level that a file states, in terms of the values that Pillow returns; None if it states none.

    A level that is below a value of the image is ignored. 16 bits, or a largest value of 65535, states no level, since
    files with images of 12 bits say the same.
    """
    if image.format == "PPM":
        maximum = _ppm_maximum(data)
        return maximum if maximum != FULL_WHITE else None
    if image.format == "JPEG2000":
        return FULL_WHITE if _jpeg2000_bits(data) < 16 else None  # Pillow scales by the bits
    if image.format == "PNG":
        bits = _significant_bits(data)
        if not 8 <= bits < 16:
            return None
        unscaled = pixels.largest() < 1 << bits and not pixels.looks_scaled(bits)
        return (1 << bits) - 1 if unscaled else FULL_WHITE
    if image.format == "TIFF":
        stated = _tiff_white(image)
        return stated if stated is not None and pixels.largest() <= stated else None
    return None


def _ppm_maximum(data: bytes) -> int:
    """Return the largest value that the header of a PGM or PPM allows; 65535 if it cannot be read."""
    words: list[bytes] = []
    for line in data[:4096].split(b"\n"):
        words += line.partition(b"#")[0].split()
        if len(words) >= 4:
            break
    return int(words[3]) if len(words) >= 4 and words[3].isdigit() and len(words[3]) < 9 else FULL_WHITE


def _jpeg2000_bits(data: bytes) -> int:
    """Return the bits of the first component of a JPEG 2000; 16 if they cannot be read."""
    start = data.find(b"\xff\x4f\xff\x51")  # the start of the code stream, and its size segment
    depth = data[start + 42 : start + 43] if start >= 0 else b""
    return (depth[0] & 0x7F) + 1 if depth else 16


def _significant_bits(data: bytes) -> int:
    """Return the largest number in a PNG's chunk of significant bits (sBIT); 0 if it has none."""
    place = 8
    for _ in range(_MOST_CHUNKS):
        name, length = data[place + 4 : place + 8], int.from_bytes(data[place : place + 4], "big")
        if name == b"sBIT":
            return max(data[place + 8 : place + 8 + min(length, 3)], default=0)
        if name in (b"IDAT", b""):
            break
        place += 12 + length
    return 0


def _tiff_white(image: ImageFile.ImageFile) -> int | None:
    """Return the white level that the tags of a TIFF state; None if they state none.

    The tags for the largest value count only if it is 2**n - 1: many programs write the image's largest value there.
    """
    bits = first_value(image, _BITS_PER_SAMPLE)
    if isinstance(bits, int) and 8 < bits < 16:
        return (1 << bits) - 1
    for tag in _LARGEST_TAGS:
        value = first_value(image, tag)
        if isinstance(value, int) and 255 <= value < FULL_WHITE and not value & (value + 1):
            return value
    return None


def first_value(image: ImageFile.ImageFile, tag: int) -> object:
    """Return the first value of a tag; None where there is none that can be read."""
    try:
        value = image.tag_v2.get(tag)  # type: ignore[attr-defined]
    except Exception:  # Pillow decodes a tag when it is accessed
        return None
    return value[0] if isinstance(value, tuple) and value else value
