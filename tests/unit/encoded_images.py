"""Image files for tests, with what Pillow does not write."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encode(image: Image.Image, format: str = "PNG", **options) -> bytes:
    """Return an image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(side: int = 8, seed: int = 0) -> Image.Image:
    """Return RGB noise."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png16(values: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG with 16 bits a value from (H, W, C), C in {1, 2, 3, 4}, with further chunks before its pixels."""
    height, width, channels = values.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    parts = [header, *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def segment(marker: int, content: bytes) -> bytes:
    """Return a segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def exif_block(entries: list[tuple[int, int, int, bytes]], order: str = ">") -> bytes:
    """Return an EXIF block with one directory of entries: tag, type, count, value."""
    place = 8 + 2 + 12 * len(entries) + 4
    directory, values = struct.pack(f"{order}H", len(entries)), b""
    for tag, kind, count, value in entries:
        inline = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(f"{order}L", place + len(values))
        directory += struct.pack(f"{order}HHL", tag, kind, count) + inline
        values += value if len(value) > 4 else b""
    head = b"MM\0*" if order == ">" else b"II*\0"
    return head + struct.pack(f"{order}L", 8) + directory + bytes(4) + values


def turned_block(orientation: int, order: str = ">") -> bytes:
    """Return an EXIF block with nothing but an orientation."""
    return exif_block([(0x112, 3, 1, struct.pack(f"{order}H", orientation))], order)


def tiff_file(content: bytes, size: int, bits: tuple[int, ...], order: str = "<", compression: int = 1) -> bytes:
    """Return a square TIFF in grey or RGB whose samples have so many bits, of its one strip as it is stored."""
    short, long = (lambda *values: struct.pack(f"{order}{len(values)}H", *values)), f"{order}L"

    def file(place: int) -> bytes:
        entries = [(256, 3, 1, short(size)), (257, 3, 1, short(size)), (258, 3, len(bits), short(*bits))]
        entries += [(259, 3, 1, short(compression)), (262, 3, 1, short(1 if len(bits) == 1 else 2))]
        entries += [(273, 4, 1, struct.pack(long, place)), (277, 3, 1, short(len(bits))), (278, 3, 1, short(size))]
        return exif_block([*entries, (279, 4, 1, struct.pack(long, len(content)))], order)

    return file(len(file(0))) + content
