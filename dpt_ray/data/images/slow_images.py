"""Images that take far longer to read than others of their size: what Pillow decodes in Python, and endless headers.

Refused before they are decoded, where reading one would take some seconds.
"""

from PIL import ImageFile

MAX_RUN_LENGTH_PIXELS = 8_000_000
"""Pixels of a BMP in run lengths. Pillow fills them in Python, 0.3 us for each, however few bytes there are."""
MAX_QOI_STEPS = 2_000_000
"""Pixels of a QOI, or bytes where it has fewer: 2 to 3 us for each."""
MAX_SCALED_VALUES = 2_000_000
"""Values of a PPM whose largest value is below 255: up to 2 us for each."""
MAX_PLAIN_BYTES = 16_000_000
"""Bytes of a PPM in digits: 0.4 us for each."""
MAX_PLAIN_COMMENTS = 1000
"""Comments in one: Pillow copies up to 1 MB for each."""
MAX_CHUNKS = 10_000
"""Chunks of a PNG beside those of its pixels and of its further frames: 5 us for each."""

_PIXEL_CHUNKS = (b"IDAT", b"fcTL", b"fdAT")
_PNG = b"\x89PNG\r\n\x1a\n"


def slow_header(data: bytes) -> str | None:
    """Return what is wrong with a file whose opening would take long; None for any other file."""
    if not data.startswith(_PNG):
        return None
    place, others = len(_PNG), 0
    while place + 8 <= len(data):
        others += data[place + 4 : place + 8] not in _PIXEL_CHUNKS
        if others > MAX_CHUNKS:
            return f"is a PNG with more than {MAX_CHUNKS:,} chunks beside its pixels"
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    return None


def slow_pixels(image: ImageFile.ImageFile, data: bytes) -> str | None:
    """Return what is wrong with an opened image whose decoding would take long; None for any other image.

    Args:
        image: as its file was opened; nothing of it is decoded yet.
        data: the file.
    """
    pixels, size = image.width * image.height, f"{image.width}x{image.height} pixels"
    values = pixels * len(image.getbands())
    codecs = {tile.codec_name for tile in image.tile}
    if "bmp_rle" in codecs and pixels > MAX_RUN_LENGTH_PIXELS:
        return _refusal(f"BMP in run lengths of {size}", MAX_RUN_LENGTH_PIXELS)
    if "qoi" in codecs and min(pixels, len(data)) > MAX_QOI_STEPS:
        return _refusal(f"QOI of {size} and {len(data):,} bytes", MAX_QOI_STEPS)
    if "ppm" in codecs and values > MAX_SCALED_VALUES:
        return _refusal(f"PPM of {size} whose largest value is not 255", MAX_SCALED_VALUES)
    if "ppm_plain" in codecs and len(data) > MAX_PLAIN_BYTES:
        return _refusal(f"PPM in digits of {len(data):,} bytes", MAX_PLAIN_BYTES)
    if "ppm_plain" in codecs and data.count(b"#") > MAX_PLAIN_COMMENTS:
        return _refusal(f"PPM in digits with {data.count(b'#'):,} comments", MAX_PLAIN_COMMENTS)
    return None


def _refusal(what: str, most: int) -> str:
    return f"is a {what}; at most {most:,} are read: convert it to PNG"
