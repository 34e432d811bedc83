"""Image files of every format that is read, as training, indexing and importing read them; and their EXIF blocks."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
from encoded_images import encode, exif_block, noise, png16, segment, tiff_file, turned_block
from PIL import Image

from dpt_ray.data.images.decoding import ImageForm, decode_images
from dpt_ray.data.images.exif import orientation
from dpt_ray.data.images.pictures import open_image
from dpt_ray.data.images.white_level import Levels
from dpt_ray.data.importing.import_plan import RawImage
from dpt_ray.data.importing.prepare import prepare
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.errors import UserError
from fuzzing import chunked
from fuzzing.raw import RAW, change_raw, parts_changed
from fuzzing.target import Corpus, Mutator, Target

_MAX_PIXELS = 50_000_000
"""As many pixels as fit into the memory of a run at 20 bytes each; see `pictures.MAX_PIXELS`."""
_FORMS = (ImageForm(16, 3, _MAX_PIXELS), ImageForm(9, 1, _MAX_PIXELS))
_SIZES = (None, 16)


def read_image(data: bytes, folder: Path) -> Iterator[str]:
    """Decode an image as training does, in colours or in grey, and prepare it as an import does.

    The content decides which, so that an input is decoded twice and not four times.
    """
    way = zlib.crc32(data) % 2
    complaints: list[str] = []
    decode_images([data], _FORMS[way], lambda row: "a.img", lambda row, e: complaints.append(str(e)), None, Levels())
    yield from complaints
    found = prepare(RawImage("a.img", "a", data, 0, "png"), _SIZES[way], _MAX_PIXELS, levels=Levels())
    if isinstance(found, Skipped):
        yield str(found)


def read_exif(block: bytes, folder: Path) -> Iterator[str]:
    """Look an EXIF block up by itself and in each format that holds one."""
    orientation(block)
    orientation(b"", block)
    orientation(b"", block.decode(errors="replace"))
    plain = noise()
    files = [encode(plain, form, exif=block) for form in ("PNG", "WEBP")]
    jpeg = encode(plain, "JPEG")
    parts = [block[start : start + 60_000] for start in range(0, len(block), 60_000)]
    files.append(jpeg[:2] + b"".join(segment(0xE1, b"Exif\0\0" + part) for part in parts) + jpeg[2:])
    files.append(jpeg[:2] + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + block[:60_000]) + jpeg[2:])
    for file in files:
        try:
            open_image(file, channels=3, where="a.img", max_pixels=_MAX_PIXELS)
        except UserError as error:
            yield str(error)


def _grey() -> Image.Image:
    return noise().convert("L")


def _deep(channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4096, (8, 8, channels), np.uint16)


def _palette(transparent: bool = False) -> Image.Image:
    image = noise().quantize(16)
    if transparent:
        image.info["transparency"] = 3
    return image


def _jpegs() -> Corpus:
    return {
        "plain": encode(noise(16), "JPEG", quality=90),
        "grey": encode(_grey(), "JPEG"),
        "progressive": encode(noise(24, 1), "JPEG", progressive=True),
        "restarts": encode(noise(40), "JPEG", restart_marker_blocks=1),
        "cmyk": encode(noise().convert("CMYK"), "JPEG"),
        "exif": encode(noise(), "JPEG", exif=turned_block(6), comment=b"x", icc_profile=b"p" * 100),
        "large": encode(Image.new("RGB", (2000, 1500)), "JPEG"),
    }


def _pngs() -> Corpus:
    return {
        "rgb": encode(noise(16)),
        "rgba": encode(noise().convert("RGBA")),
        "palette": encode(_palette(True)),
        "bits": encode(noise().convert("1")),
        "deep": png16(_deep(1)),
        "deep colours": png16(_deep(3), (b"sBIT", b"\x0c\x0c\x0c"), (b"tRNS", bytes(6))),
        "deep opacity": png16(_deep(4)),
        "deep grey opacity": png16(_deep(2)),
        "turned": encode(noise(), exif=turned_block(3)),
        "animated": encode(noise(), save_all=True, append_images=[noise(seed=1)], duration=10),
        "texts": png16(_deep(1), (b"tEXt", b"Raw profile type exif\0\nexif\n 8\n4d4d002a"), (b"gAMA", bytes(4))),
        "large": encode(Image.new("L", (3000, 2000))),
    }


def _webps() -> Corpus:
    return {
        "lossy": encode(noise(16), "WEBP"),
        "lossless": encode(noise(16), "WEBP", lossless=True),
        "opacity": encode(noise().convert("RGBA"), "WEBP", exif=turned_block(5), xmp=b"<x/>"),
        "animated": encode(noise(), "WEBP", save_all=True, append_images=[noise(seed=1)]),
    }


def _avifs() -> Corpus:
    return {
        "rgb": encode(noise(16), "AVIF", speed=10),
        "rgba": encode(noise().convert("RGBA"), "AVIF", speed=10, exif=turned_block(5)),
        "animated": encode(noise(), "AVIF", speed=10, save_all=True, append_images=[noise(seed=1)]),
    }


def _gifs() -> Corpus:
    return {
        "plain": encode(_palette(), "GIF"),
        "animated": encode(_palette(), "GIF", save_all=True, append_images=[noise(seed=1).quantize(8)], comment=b"x"),
        "transparent": encode(_palette(True), "GIF", transparency=3),
    }


def _bmps() -> Corpus:
    modes = {mode: encode(noise().convert(mode), "BMP") for mode in ("RGB", "L", "1", "P", "RGBA")}
    runs = b"\x04\x01\x00\x00" * 4 + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 8, 1, len(runs), 0, 0, 256, 0)
    rle = b"BM" + struct.pack("<IHHI", 54 + 1024 + len(runs), 0, 0, 54 + 1024) + header + bytes(1024) + runs
    return {**modes, "run lengths": rle, "dib": encode(noise(), "DIB")}


def _tiffs() -> Corpus:
    packed = {
        name: encode(noise(16), "TIFF", compression=name)
        for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
    }
    fax = {name: encode(noise(16).convert("1"), "TIFF", compression=name) for name in ("group3", "group4")}
    return {
        **packed, **fax,
        "deep": tiff_file(_deep(1).tobytes(), 8, (16,)),
        "deep colours": tiff_file(_deep(3).tobytes(), 8, (16,) * 3),
        "big endian": tiff_file(_deep(1).astype(">u2").tobytes(), 8, (16,), ">"),
        "palette": encode(_palette(), "TIFF"),
        "grey": encode(_grey(), "TIFF", compression="tiff_lzw"),
        "pages": encode(noise(), "TIFF", save_all=True, append_images=[noise(seed=1)]),
    }  # fmt: skip


def _portable() -> Corpus:
    return {
        "colours": encode(noise(), "PPM"),
        "grey": encode(_grey(), "PPM"),
        "bits": encode(noise().convert("1"), "PPM"),
        "plain": b"P3\n# a comment\n2 2 255\n" + b"1 2 3  4 5 6  7 8 9  10 11 12\n",
        "plain grey": b"P2 2 2 4095\n0 1 4095 3\n",
        "plain bits": b"P1\n4 2\n0101 1010\n",
        "deep": b"P5 8 8 4095\n" + _deep(1).astype(">u2").tobytes(),
        "deep colours": b"P6 8 8 65535\n" + _deep(3).astype(">u2").tobytes(),
    }


def _jpegs2000() -> Corpus:
    deep = Image.fromarray(_deep(1)[..., 0])
    return {
        "rgb": encode(noise(16), "JPEG2000"),
        "stream": encode(noise(16), "JPEG2000", no_jp2=True),
        "layers": encode(noise(32), "JPEG2000", quality_layers=[40, 20], tile_size=(16, 16), num_resolutions=2),
        "opacity": encode(noise().convert("RGBA"), "JPEG2000"),
        "deep": encode(deep, "JPEG2000"),
    }


def _sgis() -> Corpus:
    runs = struct.pack(">hBBHHHHii4x80si404x", 474, 1, 1, 2, 8, 8, 1, 0, 255, b"x", 0)
    line = b"\x08\x55\x00"
    runs += struct.pack(">8I", *[576] * 8) + struct.pack(">8I", *[len(line)] * 8) + line
    return {
        "rgb": encode(noise(), "SGI"), "rgba": encode(noise().convert("RGBA"), "SGI"), "run lengths": runs,
        "deep": encode(_grey(), "SGI", bpc=2),
    }  # fmt: skip


def _suns() -> Corpus:
    def header(depth: int, length: int, kind: int, colours: int = 0) -> bytes:
        return struct.pack(">8I", 0x59A66A95, 8, 8, depth, length, kind, 1 if colours else 0, colours)

    return {
        "rgb": header(24, 192, 1) + noise().tobytes(),
        "grey": header(8, 64, 1) + _grey().tobytes(),
        "palette": header(8, 64, 1, 768) + bytes(range(256)) * 3 + _grey().tobytes(),
        "run lengths": header(8, 64, 2) + b"\x80\x3f\x21",
        "bits": header(1, 16, 1) + bytes(16),
    }


def _pcxs() -> Corpus:
    return {mode: encode(noise().convert(mode), "PCX") for mode in ("RGB", "L", "P", "1")}


def _tgas() -> Corpus:
    modes = {mode: encode(noise().convert(mode), "TGA") for mode in ("RGB", "RGBA", "L", "LA", "P")}
    return {**modes, "run lengths": encode(noise(), "TGA", compression="tga_rle")}


def _qois() -> Corpus:
    head = b"qoif" + struct.pack(">II", 8, 8)
    pixels = b"".join(b"\xfe" + bytes(pixel) for pixel in np.asarray(noise()).reshape(-1, 3))
    return {
        "rgb": head + b"\x03\0" + pixels + bytes(7) + b"\1",
        "rgba": head + b"\x04\0" + b"\xff\1\2\3\4" + b"\xc0\x41\x85\x12\x05" + b"\xfd" + bytes(7) + b"\1",
    }


def _mpos() -> Corpus:
    return {"two": encode(noise(16), "MPO", save_all=True, append_images=[noise(16, 1)])}


def _exifs() -> Corpus:
    numbers = [(0x112, 3, 1, b"\0\6"), (0x11A, 5, 1, bytes(8)), (0x8769, 4, 1, bytes(4)), (0x10F, 2, 6, b"maker\0")]
    return {
        **{f"turned {order}{n}": turned_block(n, order) for n in range(1, 9) for order in "<>"},
        "more": exif_block(numbers),
        "wide": exif_block([(0x112, kind, 1, b"\0\0\0\1\0\0\0\1") for kind in range(14)]),
    }


def change_tiff_entry(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Change the tag, the type, the count or the value of an entry of a TIFF's first directory."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 10:
        return data
    (place,) = struct.unpack_from(f"{order}L", data, 4)
    if place + 14 > len(data):
        return data
    (count,) = struct.unpack_from(f"{order}H", data, place)
    start = place + 2 + 12 * rng.randrange(max(1, min(count, (len(data) - place - 2) // 12)))
    changed = bytearray(data)
    kind = rng.randrange(4)
    numbers = (0, 1, 2, 3, 4, 8, 9, 15, 255, 256, 4096, 50_000, 65_535, len(data), 2**31, 2**32 - 1)
    if kind == 0:
        struct.pack_into(f"{order}H", changed, start, rng.choice((254, 256, 257, 258, 259, 262, 270, 273, 274, 277, 278,
            279, 284, 317, 320, 322, 323, 324, 325, 338, 339, 347, 530, 700, 33723, 34377, 34665, 34675)))  # fmt: skip
    elif kind == 1:
        struct.pack_into(f"{order}H", changed, start + 2, rng.randrange(20))
    elif kind == 2:
        struct.pack_into(f"{order}L", changed, start + 4, rng.choice(numbers))
    elif rng.random() < 0.5:
        struct.pack_into(f"{order}L", changed, start + 8, rng.choice(numbers))
    else:
        struct.pack_into(f"{order}HH", changed, start + 8, rng.choice(numbers) & 0xFFFF, 0)
    return bytes(changed)


def stretch(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Append zeros or noise, so that a file may claim more pixels for its size."""
    return data + rng.choice((bytes, rng.randbytes))(rng.choice((100, 5000, 200_000)))


def change_number_in_text(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Replace a number of a PPM's header."""
    words = data[:40].split(b" ")
    words[rng.randrange(len(words))] = rng.choice(
        (b"0", b"-1", b"1", b"65535", b"65536", b"7000", b"9" * 30, b"P6", b"#")
    )
    return b" ".join(words) + data[40:]


def _weighed(*special: Mutator) -> dict[Mutator, int]:
    return {**RAW, **dict.fromkeys(special, 6), stretch: 2}


_PNG = parts_changed(chunked.split_png, chunked.join_png)
_JPEG = parts_changed(chunked.split_jpeg, chunked.join_jpeg)
_RIFF = parts_changed(chunked.split_riff, chunked.join_riff)
_BOXES = parts_changed(chunked.split_boxes, chunked.join_boxes)
_INNER = parts_changed(chunked.split_inner_boxes, chunked.join_inner_boxes)

_FORMATS = {
    "jpeg": (_jpegs, (_JPEG,)), "png": (_pngs, (_PNG,)), "webp": (_webps, (_RIFF,)), "avif": (_avifs, (_BOXES, _INNER)),
    "gif": (_gifs, ()), "bmp": (_bmps, ()), "tiff": (_tiffs, (change_tiff_entry,)),
    "ppm": (_portable, (change_number_in_text,)),
    "jpeg2000": (_jpegs2000, (_BOXES, _INNER)), "qoi": (_qois, ()), "sgi": (_sgis, ()), "sun": (_suns, ()),
    "pcx": (_pcxs, ()), "tga": (_tgas, ()), "mpo": (_mpos, (_JPEG,)),
}  # fmt: skip

TARGETS = {name: Target(corpus, _weighed(*special), read_image) for name, (corpus, special) in _FORMATS.items()}
TARGETS["exif"] = Target(_exifs, {change_raw: 2, change_tiff_entry: 4}, read_exif)
