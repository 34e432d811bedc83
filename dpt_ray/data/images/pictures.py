"""Decodes image files of any format with Pillow, within bounds, to upright 8-bit images in grey or RGB.

Decoders raise errors of any type. `complaint` makes one message of each.
"""

import io
import re
from dataclasses import dataclass

from PIL import Image, ImageFile, UnidentifiedImageError

from dpt_ray.data.images.exif import ORIENTATION, UPRIGHT, orientation, turn, valid_orientation
from dpt_ray.data.images.formats import FORMATS, NOT_DECODED, SNIFFED_BYTES, sniff
from dpt_ray.data.images.jpeg import bare_jpeg, is_jpeg, read_header, refuse_many_scans
from dpt_ray.data.images.read_deep import read_as_stored, read_deep
from dpt_ray.data.images.slow_images import slow_header, slow_pixels
from dpt_ray.data.images.white_level import FULL_WHITE, Levels, white_level
from dpt_ray.errors import UserError

MAX_PIXELS = 64_000_000
"""Default for the most pixels of an image. One with more may be a decompression bomb, and is refused undecoded.

Decoding needs up to 10 bytes for each pixel of JPEG, PNG, GIF, AVIF and TIFF, up to 20 for WebP and JPEG 2000, and up
to 24 for 16-bit colours: at most 0.64, 1.3 or 1.5 GB in each process that reads.
"""

FREE_PIXELS = 4_000_000
"""Pixels that an image may have whatever the size of its file: a blank one takes a hundred bytes in some formats."""
PIXELS_PER_BYTE = 50_000
"""Most further pixels for each byte of the file. A blank image has at most 1,100 as GIF or JPEG, 8,256 as PNG (in black
and white), 13,000 as AVIF, 24,000 as WebP, and 42,000 as JPEG 2000."""
BLACK_AND_WHITE_FACTOR = 4
"""Factor of `PIXELS_PER_BYTE` for black and white: a blank line of a fax (TIFF) is one bit, however wide."""

_STRIP_PIXELS = 1_000_000
_MOST_REASON = 200


class RefusedImageError(Exception):
    """An image is refused before it is decoded; the message says why."""


@dataclass
class Picture:
    """A decoded image.

    Attributes:
        pixels: an upright 8-bit image of mode L or RGB, without transparency.
        format: Pillow's name of the file's format.
        is_plain: whether the file holds these very pixels: 8 bits, grey or RGB, upright, opaque.
        is_grey: whether the file holds no colours.
    """

    pixels: Image.Image
    format: str
    is_plain: bool
    is_grey: bool


def read_picture(
    data: bytes,
    *,
    channels: int,
    max_pixels: int = MAX_PIXELS,
    white: int | None = None,
    levels: Levels | None = None,
) -> Picture:
    """Decode an image of any format and size.

    Args:
        data: the content of the file.
        channels: 1 for grey, 3 for RGB.
        max_pixels: most pixels of the image.
        white: the white level of images of more than 8 bits whose files state none (`white_level.py`).
        levels: counts the images of more than 8 bits whose files state no white level.

    Raises:
        RefusedImageError: the image has too many pixels or scans, or a format that is not decoded.
        Exception: any error of a decoder; `complaint` returns its message.
    """
    if Image.MAX_IMAGE_PIXELS is not None:  # Pillow's limit holds for the whole process and must not be lower
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels)
    _refuse(slow_header(data))
    stated = None
    file = data
    if is_jpeg(data):
        header = read_header(data)
        refuse_many_scans(data, header)
        file, stated = bare_jpeg(data, header), header.orientation
    with _open(file, max_pixels) as image:
        image_format, mode = image.format or "", image.mode
        refuse_size(image.width, image.height, len(data), max_pixels, black_and_white=mode == "1")
        if image_format == "TIFF":
            image.load_end = lambda: None  # type: ignore[method-assign]  # Pillow would turn the image here
        if image_format == "PPM":
            read_as_stored(image)
        _refuse(slow_pixels(image, data))
        deep = read_deep(image, file, lambda: _open(file, max_pixels))
        if deep is not None:
            upright = deep.to_8_bits(_white(deep.stated, deep.largest(), white, levels))
            del deep
        else:
            image.load()
            upright = image
        if stated is None:
            stated = _orientation(image)
        transparent = upright.has_transparency_data
        pixels = turn(_flattened(upright, channels), stated)
    return Picture(
        pixels=pixels,
        format=image_format,
        is_plain=mode in ("L", "RGB") and upright is image and not transparent and stated == UPRIGHT,
        is_grey=mode in ("1", "L", "LA", "La") or mode.startswith("I") or upright.mode == "LA",
    )


def open_image(data: bytes, *, channels: int, where: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image of any size to an upright 8-bit image in grey (1 channel) or RGB (3), without transparency.

    Raises:
        UserError: Pillow cannot read the image, the range of its values is unknown, or it has more than `max_pixels`.
    """
    try:
        return read_picture(data, channels=channels, max_pixels=max_pixels).pixels
    except Exception as error:
        raise UserError(complaint(error), where=where) from None


def refuse_size(width: int, height: int, file_bytes: int, max_pixels: int, *, black_and_white: bool = False) -> None:
    """Refuse an image by the size in its header.

    Raises:
        RefusedImageError: it has more than `max_pixels`, or more than a file of `file_bytes` can hold.
    """
    if width * height > max_pixels:
        raise RefusedImageError(f"has {width}x{height} pixels; at most {max_pixels} are read")
    for_each = PIXELS_PER_BYTE * (BLACK_AND_WHITE_FACTOR if black_and_white else 1)
    if width * height > FREE_PIXELS + for_each * file_bytes:
        raise RefusedImageError(
            f"claims {width}x{height} pixels in {file_bytes:,} bytes; above {FREE_PIXELS:,} pixels "
            f"at most {for_each:,} are read for each byte"
        )


def _refuse(reason: str | None) -> None:
    if reason is not None:
        raise RefusedImageError(reason)


def complaint(error: Exception) -> str:
    """Return the message for an error that a decoder raised; the same file gives the same message in every process."""
    if isinstance(error, RefusedImageError):
        return str(error)
    if isinstance(error, UserError):
        return error.what
    if isinstance(error, MemoryError):
        return "is not a readable image (it takes more memory than there is)"
    reason = " ".join(_ADDRESS.sub("", str(error)).split())[:_MOST_REASON]
    if not isinstance(error, (OSError, SyntaxError, ValueError, EOFError)) or not reason:
        reason = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return f"is not a readable image ({reason})"


_ADDRESS = re.compile(r" ?<_io\.BytesIO object at 0x[0-9a-f]+>")
"""Pillow's messages contain the address of the object that it read, which differs in every process."""


def _open(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        found = sniff(data[:SNIFFED_BYTES])
        if found in NOT_DECODED:
            raise RefusedImageError(f"is a {found} image, which is not read; {NOT_DECODED[found]}") from None
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit is far above ours
        pixels = re.search(r"\d+", str(error))
        claimed = pixels[0] if pixels else "too many"
        raise RefusedImageError(f"has {claimed} pixels; at most {max_pixels} are read") from None


def _white(stated: int | None, largest: int, white: int | None, levels: Levels | None) -> int:
    if stated is not None:
        return stated
    if levels is not None:
        levels.add(1, largest)
        # Until the data set's level is known, each image has its own. With 65535, all dark images would become black,
        # and so equal.
        return white or white_level(largest)
    return white or FULL_WHITE


def _orientation(image: Image.Image) -> int:
    """Return the orientation of an image other than a JPEG, 1 to 8, from the metadata that Pillow found."""
    info = image.info
    xmp = info.get("XML:com.adobe.xmp") or info.get("xmp") or b""
    xmp = xmp if isinstance(xmp, (bytes, str)) else b""
    exif = info.get("exif")
    if isinstance(exif, bytes):
        return orientation(exif, xmp)
    # ImageMagick writes this into PNG: two lines of name and length, then the EXIF block in hexadecimal.
    profile = info.get("Raw profile type exif")
    if isinstance(profile, str):
        return orientation(_from_hexadecimal("".join(profile.split("\n")[3:])), xmp)
    if image.format == "TIFF":
        try:
            tags = image.tag_v2  # type: ignore[attr-defined]
            if ORIENTATION in tags:
                return valid_orientation(tags[ORIENTATION])
        except Exception:  # Pillow decodes a tag when it is accessed
            return UPRIGHT
    return orientation(b"", xmp)


def _from_hexadecimal(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _flattened(image: Image.Image, channels: int) -> Image.Image:
    """Return an image in grey or RGB, composited over white, in strips to bound the memory of intermediate images."""
    mode = "L" if channels == 1 else "RGB"
    if not image.has_transparency_data:
        return image if image.mode == mode else image.convert(mode)
    flat = Image.new(mode, image.size)
    step = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, step):
        strip = image.crop((0, top, image.width, min(top + step, image.height)))
        if "transparency" in image.info:
            strip.info["transparency"] = image.info["transparency"]
        strip = strip.convert("RGBA")
        strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
        flat.paste(strip.convert(mode), (0, top))
    return flat
