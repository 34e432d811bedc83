"""JPEG files: reading the header, and decoding by libjpeg-turbo (simplejpeg) where its pixels equal Pillow's.

The header is read segment by segment, so the content of a comment or thumbnail is never mistaken for a part of it.
Here a segment is one of the JPEG format: a marker, a length and content.
"""

import math
import re
from dataclasses import dataclass

import numpy as np
import simplejpeg

from dpt_ray.data.buffer_pool import BufferPool
from dpt_ray.data.images.exif import UPRIGHT, orientation

MAX_SCANS = 100
"""Most scans of an image. Each scan visits all pixels, however few bytes it has. Encoders write about ten."""
MAX_SCANS_OF_LARGE, MAX_SCANNED_PIXELS = 20, 1_000_000_000
"""An image of more scans than the first may have at most the second of pixels, each counted once for each scan."""
MAX_SEGMENTS = 1000
"""Most segments of a header."""

_START = b"\xff\xd8\xff"
_SCAN, _END = 0xDA, 0xD9
_EXIF_OR_XMP = 0xE1
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BASELINE, _USUAL_FRAMES = 0xC0, (0xC0, 0xC1, 0xC2)
_NEEDED = frozenset(range(0xC0, 0xE0)) | {0xE0, 0xEE}
"""Segments that decoding needs: frames, tables, and those that define the colours (JFIF, Adobe)."""
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_EXIF = b"Exif\0\0"
_TABLES = frozenset((0xC4, 0xDB))
_SCAN_MARK = b"\xff\xda"
_LONGEST_BEGINNING, _MOST_BEGINNINGS = 4096, 16
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""Matches a marker that ends the data of a scan. In the data itself, 255 is followed by 0 or is part of a restart mark.
"""


@dataclass(slots=True)
class JpegHeader:
    """The content of the segments before the first scan.

    Attributes:
        frame: marker of the frame: 0xC0 is baseline, 0xC2 progressive.
        bits: bits of a sample.
        height: height in pixels.
        width: width in pixels.
        colours: number of components.
        scan: offset of the marker of the first scan.
        segments: marker, first byte and end of each segment before the scan.
        orientation: the orientation by EXIF or XMP, 1 to 8.
        clean: whether no bytes lie between the segments.
    """

    frame: int
    bits: int
    height: int
    width: int
    colours: int
    scan: int
    segments: list[tuple[int, int, int]]
    orientation: int
    clean: bool

    def is_usual(self) -> bool:
        """Whether libjpeg-turbo decodes the file to Pillow's pixels: 8 bits, Huffman coding, 1 or 3 components."""
        return self.clean and self.bits == 8 and self.frame in _USUAL_FRAMES and self.colours in (1, 3)


def is_jpeg(data: bytes) -> bool:
    """Whether a file begins with the marker of a JPEG."""
    return data[:3] == _START


def read_header(data: bytes) -> JpegHeader:
    """Read the header of a JPEG file.

    Raises:
        ValueError: the file has no frame or no scan, ends within the header, or has more than `MAX_SEGMENTS` segments.
    """
    segments: list[tuple[int, int, int]] = []
    place, frame, clean, application = 2, -1, True, False
    try:
        while True:
            if data[place] != 0xFF:
                place, clean = _next_marker(data, place), False
            marker = data[place + 1]
            if marker == _SCAN:
                break
            if marker == 0xFF or marker < 0xC0 or 0xD0 <= marker <= 0xD9:  # a fill byte, or a marker without a segment
                place, clean = place + (1 if marker == 0xFF else 2), False
                continue
            stop = place + 2 + (data[place + 2] << 8 | data[place + 3])
            if marker in _FRAMES:
                clean = clean and frame < 0
                frame = place
            elif marker == _EXIF_OR_XMP:
                application = True
            segments.append((marker, place, stop))
            if len(segments) > MAX_SEGMENTS:
                raise ValueError(f"a JPEG with more than {MAX_SEGMENTS:,} segments before its pixels")
            if stop < place + 4:
                raise ValueError("a JPEG with a segment shorter than its own length")
            place = stop
        if frame < 0:
            raise ValueError("a JPEG without a frame")
        return JpegHeader(
            frame=data[frame + 1],
            bits=data[frame + 4],
            height=data[frame + 5] << 8 | data[frame + 6],
            width=data[frame + 7] << 8 | data[frame + 8],
            colours=data[frame + 9],
            scan=place,
            segments=segments,
            orientation=_orientation(data, segments) if application else UPRIGHT,
            clean=clean,
        )
    except IndexError:
        raise ValueError("a JPEG that ends within its header") from None


def _next_marker(data: bytes, place: int) -> int:
    found = _NEXT_MARKER.search(data, place)
    if found is None:
        raise ValueError("a JPEG that ends within its header")
    return found.start()


def _orientation(data: bytes, segments: list[tuple[int, int, int]]) -> int:
    """Return the orientation by the joined EXIF segments, or by the last XMP segment if EXIF has none."""
    exif, xmp = [], b""
    for marker, start, stop in segments:
        if marker != _EXIF_OR_XMP:
            continue
        content = data[start + 4 : stop]
        if content.startswith(_EXIF):
            exif.append(content[len(_EXIF) :])
        elif content.startswith(_XMP):
            xmp = content[len(_XMP) :]
    return orientation(b"".join(exif), xmp)


def bare_jpeg(data: bytes, header: JpegHeader) -> bytes:
    """Return a JPEG without EXIF, profiles, comments and bytes between segments.

    Pixels do not need them, but Pillow interprets them when it opens a file, and some make it fail.
    """
    kept = [data[start:stop] for marker, start, stop in header.segments if marker in _NEEDED]
    return b"".join([data[:2], *kept, data[header.scan :]])


def max_scans(pixels: int) -> int:
    """Return the most scans of an image with this number of pixels."""
    return min(MAX_SCANS, max(MAX_SCANS_OF_LARGE, MAX_SCANNED_PIXELS // max(1, pixels)))


def refuse_many_scans(data: bytes, header: JpegHeader) -> None:
    """Refuse an image that takes far longer to decode than others of its size.

    Raises:
        ValueError: it has more than `MAX_SCANS` scans, or more than its size allows.
    """
    most = max_scans(header.width * header.height)
    # An upper bound, since scans of thumbnails and further images in the file count as well.
    if data.count(_SCAN_MARK, header.scan) <= most:
        return
    scans, place = 1, header.scan
    for _ in range(MAX_SEGMENTS):
        found = _NEXT_MARKER.search(data, place + 2 + int.from_bytes(data[place + 2 : place + 4], "big"))
        if found is None or data[found.start() + 1] == _END:
            return
        place = found.start()
        scans += data[place + 1] == _SCAN
        if scans > most:
            raise ValueError(f"a JPEG of {header.width}x{header.height} pixels with more than {most} scans")
    raise ValueError(f"a JPEG with more than {MAX_SEGMENTS:,} segments between its scans")


class JpegDecoder:
    """Decodes ordinary JPEGs of one size and number of channels.

    One instance decodes many images. Images from one encoder begin with the same bytes, up to the frame or the scan.
    The decoder remembers beginnings and does not read such a header again, which matters for small images.

    Args:
        size: height and width in pixels of the images.
        channels: 1 for grey, 3 for RGB.
    """

    def __init__(self, size: int, channels: int):
        self._size, self._channels = size, channels
        self._header = b""
        self._beginnings: set[bytes] = set()
        self._lengths: tuple[int, ...] = ()
        self._buffers = BufferPool(most_spare=1, most_excess=math.inf, least_bytes=0)

    def decode_usual(self, data: bytes, out: np.ndarray) -> bool:
        """Decode a baseline colour JPEG of the decoder's size into `out`, uint8 (H, W, 3), if its beginning is known.

        Returns:
            Whether it was decoded.
        """
        if not self._header or not (data.startswith(self._header) or self._begins_as_known(data)):
            return False
        try:
            return simplejpeg.decode_jpeg(data, "RGB", buffer=out).shape == out.shape
        except ValueError:  # damaged
            return False

    def _begins_as_known(self, data: bytes) -> bool:
        """Whether a file has a known beginning up to its frame, and only tables between it and a scan of 3 colours."""
        for place in self._lengths:
            if data[:place] not in self._beginnings:
                continue
            try:
                while data[place] == 0xFF and data[place + 1] in _TABLES:
                    place += 2 + (data[place + 2] << 8 | data[place + 3])
                return data[place : place + 2] == _SCAN_MARK and data[place + 4] == 3
            except IndexError:
                return False
        return False

    def decode(self, data: bytes, header: JpegHeader, out: np.ndarray) -> np.ndarray | None:
        """Decode an upright JPEG of any size to uint8 (H, W, C), into `out` if the shapes are equal.

        Returns:
            The pixels; None for a JPEG that only Pillow decodes, and for a damaged one.
        """
        if not header.is_usual() or header.orientation != UPRIGHT or self._channels < header.colours:
            return None
        fitting = header.height == header.width == self._size
        if fitting:
            self._remember(data, header)
        shape = header.height, header.width, self._channels
        buffer = out if fitting else self._buffers.empty(shape, out.dtype)
        try:
            pixels = simplejpeg.decode_jpeg(data, "RGB" if self._channels == 3 else "GRAY", buffer=buffer)
        except ValueError:  # Pillow may still decode it
            return None
        return out if fitting else pixels

    def _remember(self, data: bytes, header: JpegHeader) -> None:
        """Remember the beginning of a baseline image with all colours in one scan; several scans must be counted."""
        scan_colours = data[header.scan + 4 : header.scan + 5]
        if (header.frame, header.colours, self._channels, scan_colours) != (_BASELINE, 3, 3, b"\3"):
            return
        self._header = data[: header.scan + 5]
        frame_stop = next(stop for marker, _, stop in header.segments if marker == _BASELINE)
        tables_follow = all(marker in _TABLES for marker, start, _ in header.segments if start >= frame_stop)
        if not tables_follow or frame_stop > _LONGEST_BEGINNING:
            return
        if len(self._beginnings) >= _MOST_BEGINNINGS:
            self._beginnings.clear()
        self._beginnings.add(data[:frame_stop])
        self._lengths = tuple({len(beginning) for beginning in self._beginnings})
