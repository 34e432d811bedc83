"""Images that take far longer to read than others of their size: what Pillow decodes in Python, and endless headers.

Refused before they are decoded, where reading one would take some seconds.
"""

from typing import Literal, NamedTuple

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

MAX_TAG_VALUES = 1_000_000
"""Numbers in one tag of a TIFF: up to 1 us for each. An image in strips of one row has 10,000 or so."""
MAX_DEEP_PIXELS = 32_000_000
"""Pixels of several channels of 16 bits: 0.2 us and 24 bytes for each."""

_PIXEL_CHUNKS = (b"IDAT", b"fcTL", b"fdAT")
_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF_BYTES = (1, 2, 6, 7)  # types of tags whose values are read together: bytes, text, undefined
_MAX_TAGS = 1 << 16


class _TiffForm(NamedTuple):
    """How a TIFF stores its tags: byte order, place of the first offset, and sizes in bytes."""

    byte_order: Literal["little", "big"]
    first: int
    offset_bytes: int
    count_bytes: int
    tag_bytes: int


_LITTLE, _BIG = _TiffForm("little", 4, 4, 2, 12), _TiffForm("big", 4, 4, 2, 12)
_TIFF = {
    b"II*\0": _LITTLE,
    b"II\0*": _LITTLE,
    b"MM\0*": _BIG,
    b"MM*\0": _BIG,
    b"II+\0": _TiffForm("little", 8, 8, 8, 20),
    b"MM\0+": _BIG,  # Pillow takes it for a TIFF with offsets of 4 bytes
}


def slow_header(data: bytes) -> str | None:
    """Return what is wrong with a file whose opening would take long; None for any other file."""
    if data.startswith(_PNG):
        return _slow_png_header(data)
    form = _TIFF.get(data[:4])
    return _slow_tiff_header(data, form) if form else None


def _slow_png_header(data: bytes) -> str | None:
    place, others = len(_PNG), 0
    while place + 8 <= len(data):
        others += data[place + 4 : place + 8] not in _PIXEL_CHUNKS
        if others > MAX_CHUNKS:
            return f"is a PNG with more than {MAX_CHUNKS:,} chunks beside its pixels"
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    return None


def _slow_tiff_header(data: bytes, form: _TiffForm) -> str | None:
    """Check the tags of the first image, the only one that is read."""

    def number(place: int, size: int) -> int:
        return int.from_bytes(data[place : place + size], form.byte_order)

    place = number(form.first, form.offset_bytes)
    tags = min(number(place, form.count_bytes), _MAX_TAGS)
    for start in range(place + form.count_bytes, place + form.count_bytes + tags * form.tag_bytes, form.tag_bytes):
        tag, kind, values = number(start, 2), number(start + 2, 2), number(start + 4, form.offset_bytes)
        if kind not in _TIFF_BYTES and values > MAX_TAG_VALUES:
            return f"is a TIFF with more than {MAX_TAG_VALUES:,} numbers in tag {tag}"
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
    if pixels > MAX_DEEP_PIXELS and len(image.getbands()) > 1 and any(";16" in str(tile.args) for tile in image.tile):
        return f"has {size} of 16 bits a channel; at most {MAX_DEEP_PIXELS:,} are read: convert it to 8 bits"
    if "ppm" in codecs and values > MAX_SCALED_VALUES:
        return _refusal(f"PPM of {size} whose largest value is not 255", MAX_SCALED_VALUES)
    if "ppm_plain" in codecs and len(data) > MAX_PLAIN_BYTES:
        return _refusal(f"PPM in digits of {len(data):,} bytes", MAX_PLAIN_BYTES)
    if "ppm_plain" in codecs and data.count(b"#") > MAX_PLAIN_COMMENTS:
        return _refusal(f"PPM in digits with {data.count(b'#'):,} comments", MAX_PLAIN_COMMENTS)
    return None


def _refusal(what: str, most: int) -> str:
    return f"is a {what}; at most {most:,} are read: convert it to PNG"
