"""Formats that are sequences of parts with lengths and checksums, taken apart and put together again."""

import struct
import zlib

_PNG = b"\x89PNG\r\n\x1a\n"
_LONGEST_LINES = 1 << 20


def split_png(data: bytes) -> list[bytes]:
    """Return the chunks of a PNG, name and content; the pixels' chunks come first and unpacked, as far as they are."""
    place, chunks = len(_PNG), []
    while place + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append(data[place + 4 : place + 8 + length])
        place += 12 + length
    pixels = b"".join(chunk[4:] for chunk in chunks if chunk[:4] == b"IDAT")
    unpacked = zlib.decompressobj()
    try:
        lines = unpacked.decompress(pixels, _LONGEST_LINES)
    except zlib.error:
        return chunks
    others = [chunk for chunk in chunks if chunk[:4] != b"IDAT"]
    return [b"lines" + lines, *others] if others else chunks


def join_png(parts: list[bytes]) -> bytes:
    """Return a PNG of chunks, with right lengths and checksums; unpacked pixels are packed, before the last chunk."""
    lines = [part[5:] for part in parts if part.startswith(b"lines")]
    chunks = [part for part in parts if not part.startswith(b"lines")]
    if lines:
        chunks[-1:-1] = [b"IDAT" + zlib.compress(content) for content in lines]
    written = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks if len(c) >= 4]
    return _PNG + b"".join(written)


def split_jpeg(data: bytes) -> list[bytes]:
    """Return the segments of a JPEG, marker and content, and the data of each scan after its segment."""
    place, parts = 2, []
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            raise ValueError("no marker")
        marker = data[place : place + 2]
        if marker == b"\xff\xd9":
            break
        (length,) = struct.unpack_from(">H", data, place + 2)
        parts.append(marker + data[place + 4 : place + 2 + length])
        place += 2 + length
        if marker == b"\xff\xda":
            end = place
            while end + 1 < len(data) and not (data[end] == 0xFF and data[end + 1] not in (0, *range(0xD0, 0xD8))):
                end += 1
            parts.append(b"scan" + data[place:end])
            place = end
    return parts


def join_jpeg(parts: list[bytes]) -> bytes:
    """Return a JPEG of segments, with right lengths."""
    written = []
    for part in parts:
        if part.startswith(b"scan"):
            written.append(part[4:])
        else:
            written.append(part[:2] + (len(part)).to_bytes(2, "big") + part[2:])
    return b"\xff\xd8" + b"".join(written) + b"\xff\xd9"


def split_riff(data: bytes) -> list[bytes]:
    """Return the chunks of a RIFF file such as WebP, name and content."""
    place, chunks = 12, []
    while place + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, place + 4)
        chunks.append(data[place : place + 4] + data[place + 8 : place + 8 + length])
        place += 8 + length + length % 2
    return chunks


def join_riff(parts: list[bytes]) -> bytes:
    """Return a WebP of chunks, with right lengths."""
    body = b"WEBP" + b"".join(
        part[:4].ljust(4) + struct.pack("<I", max(0, len(part) - 4)) + part[4:] + bytes(len(part) % 2) for part in parts
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


_NESTING_BOXES = (b"jp2h", b"iprp", b"ipco", b"moov", b"trak")
_FULL_NESTING_BOX = b"meta"


def split_boxes(data: bytes) -> list[bytes]:
    """Return the boxes of AVIF or JPEG 2000, name and content, those within others after the empty outer one."""
    place, boxes = 0, []
    while place + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        if length < 8:
            length = len(data) - place
        boxes.append(data[place + 4 : place + length])
        place += length
    return boxes


def join_boxes(parts: list[bytes]) -> bytes:
    """Return boxes as a file, with right lengths."""
    return b"".join(struct.pack(">I", len(part) + 4) + part for part in parts)


def split_inner_boxes(data: bytes) -> list[bytes]:
    """Return a file as its beginning, the boxes within its first nesting box, and its end; see `join_inner_boxes`."""
    boxes = split_boxes(data)
    for number, box in enumerate(boxes):
        head = 8 if box[:4] == _FULL_NESTING_BOX else 4 if box[:4] in _NESTING_BOXES else 0
        if head:
            return [join_boxes(boxes[:number]), box[:head], *split_boxes(box[head:]), join_boxes(boxes[number + 1 :])]
    raise ValueError("no box with others within")


def join_inner_boxes(parts: list[bytes]) -> bytes:
    """Return a file of the parts that `split_inner_boxes` gives."""
    if len(parts) < 3:
        raise ValueError("nothing left of it")
    begin, head, *inner, end = parts
    return begin + join_boxes([head + join_boxes(inner)]) + end
