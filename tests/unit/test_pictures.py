"""Formats by content, claims of size, transparency, palettes, colour spaces and first frames."""

import contextlib
import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from encoded_images import chunk, encode, noise
from PIL import Image

from dpt_ray.data.images.decoding import ImageForm, decode_image
from dpt_ray.data.images.formats import EXTENSIONS, FORMATS, fitting_extension, sniff
from dpt_ray.data.images.pictures import FREE_PIXELS, MAX_PIXELS, PIXELS_PER_BYTE, RefusedImageError, refuse_size
from dpt_ray.data.images.slow_images import MAX_RUN_LENGTH_PIXELS
from dpt_ray.data.importing.import_plan import RawImage
from dpt_ray.data.importing.prepare import Prepared, prepare
from dpt_ray.errors import UserError

FORM = ImageForm(8, 3)
WRITTEN = {
    "JPEG": {}, "PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "DIB": {}, "PPM": {}, "GIF": {}, "TIFF": {},
    "AVIF": {}, "JPEG2000": {}, "QOI": {}, "SGI": {}, "PCX": {}, "TGA": {},
}  # fmt: skip
"""Formats that Pillow writes."""


def decode(data: bytes) -> np.ndarray:
    return decode_image(data, FORM, "x")


def complaint(data: bytes) -> str:
    with pytest.raises(UserError) as caught:
        decode(data)
    return str(caught.value)


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)


@pytest.mark.parametrize("form", WRITTEN)
def test_every_format_is_read_whatever_it_is_called_and_stored_under_a_fitting_extension(form):
    data = encode(noise(), form, **WRITTEN[form])
    if form == "JPEG2000":
        assert np.abs(decode(data).astype(int) - by_pillow(data)).max() <= 1
    else:
        assert np.array_equal(decode(data), by_pillow(data))
    for extension in ("jpg", "png", "", None, "unknown"):
        result = prepare(RawImage("a", "a", data, 1, extension, own_file=True), None, 10**6)
        assert isinstance(result, Prepared), result
        (stored,) = set(result.sample.files) - {"cls"}
        assert EXTENSIONS[stored] == form
        assert result.sample.files[stored] == data


def test_extensions_are_kept_where_they_fit():
    for extension, form in EXTENSIONS.items():
        assert fitting_extension(form, extension) == extension
        assert EXTENSIONS[fitting_extension(form, None)] == form
    assert set(EXTENSIONS.values()) == set(FORMATS)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pillow-heif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "pillow-heif"),
        (b"\xff\x0a" + bytes(20), "pillow-jxl-plugin"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "pillow-jxl-plugin"),
        (b"8BPS" + bytes(20), "PNG"),
        (b"<svg xmlns='a'></svg>", "no pixels"),
    ],
)
def test_what_would_need_more_than_pillow_says_so(head, words):
    data = head + bytes(300)
    assert "which is not read" in complaint(data)
    assert words in complaint(data)
    assert words in prepare(RawImage("a", "a", data, 1, "jpg"), None, 10**6).reason


# Claims


@pytest.mark.parametrize(("form", "colour"), [(form, 255) for form in WRITTEN if form != "QOI"] + [("WEBP", 0)])
def test_blank_images_of_usual_sizes_are_read(form, colour):
    options = {"AVIF": {"speed": 10}, "TIFF": {"compression": "tiff_lzw"}}.get(form, WRITTEN[form])
    data = encode(Image.new("RGB", (1600, 1200), (colour,) * 3), form, **options)
    assert np.abs(decode(data).astype(int) - colour).max() <= 1


@pytest.mark.parametrize("size", [(3000, 3000), (5000, 7000)])
def test_blank_pages_of_any_size_are_read_where_they_are_honest(size):
    fax = len(encode(Image.new("1", size, 1), "TIFF", compression="group4"))
    refuse_size(*size, fax, MAX_PIXELS, black_and_white=True)
    refuse_size(*size, len(encode(Image.new("1", size), "PNG")), MAX_PIXELS)
    refuse_size(*size, len(encode(Image.new("L", size), "GIF")), MAX_PIXELS)


def claiming(width: int, height: int) -> dict[str, bytes]:
    """Return files of a few bytes that claim a size."""
    webp = bytearray(encode(Image.new("RGB", (16, 16)), "WEBP", lossless=True))
    start = webp.index(b"VP8L") + 9
    webp[start : start + 4] = ((width - 1) | (height - 1) << 14).to_bytes(4, "little")
    jpeg = bytearray(encode(Image.new("RGB", (16, 16)), "JPEG"))
    frame = jpeg.index(b"\xff\xc0") + 5
    jpeg[frame : frame + 4] = struct.pack(">HH", height, width)
    png = encode(Image.new("RGB", (16, 16)))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return {
        "webp": bytes(webp),
        "jpeg": bytes(jpeg),
        "png": png[:8] + chunk(b"IHDR", header) + png[33:],
        "gif": b"GIF89a" + struct.pack("<HH", width, height) + encode(Image.new("L", (16, 16)), "GIF")[10:],
    }


@pytest.mark.parametrize("size", [(8000, 8000), (16383, 3000)])
def test_what_claims_far_more_pixels_than_its_bytes_can_hold_is_refused(size):
    for name, data in claiming(*size).items():
        message = complaint(data)
        assert f"claims {size[0]}x{size[1]} pixels" in message, name
        assert "claims" in prepare(RawImage("a", "a", data, 1), None, MAX_PIXELS).reason
    for channels in (1, 3):
        with pytest.raises(UserError, match="claims"):
            decode_image(claiming(*size)["jpeg"], ImageForm(8, channels), "x")


@pytest.mark.parametrize(("num_bytes", "black_and_white"), [(1, False), (200, False), (1, True), (200, True)])
def test_claims_are_bounded_by_pixels_and_by_pixels_for_each_byte(num_bytes, black_and_white):
    most = FREE_PIXELS + PIXELS_PER_BYTE * num_bytes * (4 if black_and_white else 1)
    refuse_size(most, 1, num_bytes, MAX_PIXELS, black_and_white=black_and_white)
    with pytest.raises(RefusedImageError, match="claims"):
        refuse_size(most + 1, 1, num_bytes, MAX_PIXELS, black_and_white=black_and_white)


def test_no_more_pixels_are_read_than_the_setting_says():
    refuse_size(10, 10, 10**9, 100)
    with pytest.raises(RefusedImageError, match="at most 100 are read"):
        refuse_size(101, 1, 10**9, 100)


@pytest.mark.parametrize("form", [*WRITTEN, "MPO"])
def test_every_format_is_refused_before_it_is_decoded(form, monkeypatch):
    """Decoders of whole images: Pillow's, those of WebP and AVIF, which decode before `load` is called, and JPEG's."""
    data = encode(noise(100), form, **WRITTEN.get(form, {}))
    decode_image(data, ImageForm(8, 3, 10_000), "x")
    for decoder in ("PIL.ImageFile.ImageFile.load", "PIL.WebPImagePlugin.WebPImageFile.load",
                    "PIL.AvifImagePlugin.AvifImageFile.load",
                    "dpt_ray.data.images.jpeg.simplejpeg.decode_jpeg"):  # fmt: skip
        monkeypatch.setattr(decoder, lambda *given, **options: pytest.fail("it is decoded"))
    with pytest.raises(UserError, match="has 100x100 pixels; at most 9999 are read"):
        decode_image(data, ImageForm(8, 3, 9999), "x")
    assert "at most 9999 are read" in prepare(RawImage("a", "a", data, 1), None, 9999).reason


def test_bmps_in_run_lengths_are_read_up_to_a_size():
    """Pillow decodes them in Python; ends of lines alone would have it fill millions of pixels for two bytes each."""

    def bmp(width: int, height: int, runs: bytes) -> bytes:
        head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
        place = 14 + len(head) + 1024
        colours = b"".join(bytes((grey, grey, grey, 0)) for grey in range(256))
        return b"BM" + struct.pack("<IHHI", place + len(runs), 0, 0, place) + head + colours + runs

    assert (decode(bmp(8, 8, b"\x08\x55\0\0" * 8 + b"\0\1")) == 0x55).all()
    width = MAX_RUN_LENGTH_PIXELS // 4 + 1
    message = complaint(bmp(width, 4, b"\0\0" * 4 + bytes(1000)))
    assert f"is a BMP in run lengths of {width}x4 pixels; at most 8,000,000 are read: convert it to PNG" in message


def test_texts_that_unpack_to_gigabytes_are_refused():
    png = encode(noise())
    bomb = zlib.compress(bytes(10**8))
    for name in (b"zTXt", b"iTXt", b"iCCP"):
        content = b"a\0\0" + bomb if name != b"iTXt" else b"a\0\1\0\0\0" + bomb
        data = png[:33] + chunk(name, content) + png[33:]
        with contextlib.suppress(UserError):
            assert np.array_equal(decode(data), by_pillow(png))


DECODED = """
import io, sys
import numpy as np
from PIL import Image
from encoded_images import png16
from dpt_ray.data.images.decoding import ImageForm, decode_image
side, form = 2400, sys.argv[1]
rng = np.random.default_rng(0)
pixels = np.kron(rng.integers(0, 256, (side // 20, side // 20, 4), np.uint8), np.ones((20, 20, 1), np.uint8))
buffer = io.BytesIO()
image = Image.fromarray(pixels)
if form == "PNG of 16 bits":
    buffer.write(png16(pixels.astype(np.uint16) * 257))
else:
    (image if form in ("PNG", "WEBP", "JPEG2000") else image.convert("RGB")).save(buffer, form)
del pixels, image
data = buffer.getvalue()
reset = open("/proc/self/clear_refs", "w")
reset.write("5"); reset.close()
held = lambda name: int(next(l for l in open("/proc/self/status") if l.startswith(name)).split()[1]) * 1024
before = held("VmRSS")
decode_image(data, ImageForm(300, 3), "x")
print((held("VmHWM") - before) / side**2)
"""


@pytest.mark.parametrize(
    ("form", "most"),
    [("PNG", 10), ("JPEG", 10), ("GIF", 10), ("TIFF", 10), ("WEBP", 20), ("JPEG2000", 20), ("PNG of 16 bits", 24)],
)
def test_decoding_takes_the_memory_that_is_documented(form, most):
    done = subprocess.run(
        [sys.executable, "-c", DECODED, form],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert float(done.stdout) < most + 4  # what is held once, whatever the size, for each pixel of this image


# What pixels become


def test_palettes_transparency_and_colour_spaces():
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    for form in ("PNG", "WEBP", "TIFF", "AVIF"):
        options = {"lossless": True} if form == "WEBP" else {"quality": 100} if form == "AVIF" else {}
        red = decode(encode(half, form, **options))[:, 4, 4].astype(int)
        assert np.abs(red - (255, 127, 127)).max() <= 3, form
    colours = np.asarray(Image.new("CMYK", (8, 8), (0, 255, 255, 0)).convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(decode(encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF")), colours)
    lab = Image.new("LAB", (8, 8), (135, 208, 195))  # red
    assert np.abs(decode(encode(lab, "TIFF"))[:, 0, 0].astype(int) - (255, 0, 0)).max() <= 12
    ycbcr = noise().convert("YCbCr")
    assert np.array_equal(decode(encode(ycbcr, "TIFF")), np.asarray(ycbcr.convert("RGB")).transpose(2, 0, 1))
    bits = Image.fromarray(np.indices((8, 8)).sum(0) % 2 == 1)
    for form in ("PNG", "TIFF", "PPM", "BMP", "PCX"):
        assert np.array_equal(decode(encode(bits, form))[0], np.asarray(bits) * 255), form


def test_large_transparent_images_are_laid_over_white_strip_by_strip(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 4), np.uint8)
    data = encode(Image.fromarray(pixels))
    for size, channels in ((30, 3), (30, 1)):
        form = ImageForm(size, channels)
        whole = decode_image(data, form, "x")
        with monkeypatch.context() as patch:
            patch.setattr("dpt_ray.data.images.pictures._STRIP_PIXELS", 100)
            assert np.array_equal(decode_image(data, form, "x"), whole)


def test_of_several_frames_or_pages_the_first_is_read():
    frames = [noise(seed=seed).quantize(64) for seed in range(3)]
    for form in ("GIF", "PNG", "TIFF"):
        data = encode(frames[0], form, save_all=True, append_images=frames[1:])
        assert np.array_equal(decode(data), np.asarray(frames[0].convert("RGB")).transpose(2, 0, 1)), form
    frames = [frame.convert("RGB") for frame in frames]
    for form, options in (("WEBP", {"lossless": True}), ("AVIF", {})):
        data = encode(frames[0], form, save_all=True, append_images=frames[1:], duration=100, **options)
        alone = decode(encode(frames[0], form, **options))
        assert np.abs(decode(data).astype(int) - alone).max() <= (0 if form == "WEBP" else 60), form


def test_formats_that_begin_distinctively_are_told_by_their_beginning():
    for form, options in WRITTEN.items():
        if form in ("TGA", "DIB"):
            continue
        assert sniff(encode(noise(), form, **options)[:256]) == form
