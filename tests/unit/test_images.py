"""Every kind of image that people have becomes the right pixels, or is refused by name."""

import io
import random
import struct
import warnings
import zlib

import numpy as np
import psutil
import pytest
from PIL import Image

from dpt_ray.benchmark.readers import centre_crop_with_pillow
from dpt_ray.data.images.decoding import MAX_PIXELS, ImageForm, decode_image, decode_images, encode_png
from dpt_ray.errors import UserError

WHERE = "00000.tar: sample 'a'"
SIZE = 8
RAMP16 = (np.arange(SIZE * SIZE).reshape(SIZE, SIZE) * 1040).astype(np.uint16)
"""16-bit grey levels from 0 to 65,520."""
RAMP8 = (RAMP16 >> 8).astype(np.uint8)
RGB = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def encode(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decode(data: bytes, channels: int = 3, size: int = SIZE, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    pixels = decode_image(data, ImageForm(size, channels, max_pixels), WHERE)
    assert pixels.shape == (channels, size, size)
    assert pixels.dtype == np.uint8
    return pixels


def complaint(data: bytes, **form) -> str:
    with pytest.raises(UserError) as caught:
        decode(data, **form)
    message = str(caught.value)
    assert message.startswith(WHERE)
    assert "\n" not in message
    return message


def uniform(colour: tuple[int, ...] | int) -> np.ndarray:
    """Return an image of one colour as (C, H, W)."""
    values = np.atleast_1d(np.array(colour, np.uint8))
    return np.broadcast_to(values[:, None, None], (len(values), SIZE, SIZE))


def png(width: int, height: int, bits: int, colour_type: int, raw: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG file from its parts, for kinds that Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_rgb_and_grey_come_through_unchanged():
    assert (decode(encode(Image.fromarray(RGB))) == RGB.transpose(2, 0, 1)).all()
    assert (decode(encode(Image.fromarray(RAMP8)), channels=1) == RAMP8).all()


def test_grey_fills_three_channels_and_colour_becomes_luma():
    assert (decode(encode(Image.fromarray(RAMP8))) == np.stack([RAMP8] * 3)).all()
    luma = RGB.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(decode(encode(Image.fromarray(RGB)), channels=1)[0] - luma).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(8, 8), (3, 5), (1, 1)])
def test_png_round_trip(channels, shape):
    pixels = np.random.default_rng(1).integers(0, 256, (channels, *shape), dtype=np.uint8)
    data = encode_png(pixels)
    assert data == encode_png(pixels.copy())
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == shape[::-1]
        back = np.asarray(image)
    assert ((back[None] if channels == 1 else back.transpose(2, 0, 1)) == pixels).all()
    if shape == (SIZE, SIZE):
        assert (decode(data, channels) == pixels).all()


@pytest.mark.parametrize("format", ["PNG", "BMP", "PPM", "TIFF", "GIF", "WEBP"])
def test_lossless_formats_give_the_same_pixels(format):
    grey = np.stack([RAMP8] * 3, axis=-1)
    options = {"lossless": True} if format == "WEBP" else {}
    image = Image.fromarray(RAMP8) if format == "GIF" else Image.fromarray(grey)
    assert (decode(encode(image, format, **options)) == grey.transpose(2, 0, 1)).all()


def test_transparency_is_laid_over_white():
    half = Image.new("RGBA", (SIZE, SIZE), (200, 0, 100, 0))
    assert (decode(encode(half)) == uniform((255, 255, 255))).all()
    opaque = Image.new("RGBA", (SIZE, SIZE), (200, 0, 100, 255))
    assert (decode(encode(opaque)) == uniform((200, 0, 100))).all()
    blended = decode(encode(Image.new("RGBA", (SIZE, SIZE), (200, 0, 100, 51))))  # a fifth
    assert np.abs(blended.astype(int) - uniform((244, 204, 224))).max() <= 1


def test_grey_with_alpha_is_laid_over_white():
    assert (decode(encode(Image.new("LA", (SIZE, SIZE), (10, 0))), channels=1) == 255).all()
    assert (decode(encode(Image.new("LA", (SIZE, SIZE), (10, 255))), channels=1) == 10).all()
    assert (decode(encode(Image.new("LA", (SIZE, SIZE), (10, 255)))) == uniform((10, 10, 10))).all()


def test_palette_with_and_without_transparency():
    image = Image.new("P", (SIZE, SIZE), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    assert (decode(encode(image)) == uniform((40, 50, 60))).all()
    assert (decode(encode(image, transparency=0)) == uniform((40, 50, 60))).all()
    assert (decode(encode(image, transparency=1)) == uniform((255, 255, 255))).all()
    assert (decode(encode(image, "GIF", transparency=1)) == uniform((255, 255, 255))).all()


def test_colour_key_transparency_of_rgb_and_grey():
    rgb = Image.new("RGB", (SIZE, SIZE), (1, 2, 3))
    assert (decode(encode(rgb, transparency=(1, 2, 3))) == uniform((255, 255, 255))).all()
    grey = Image.new("L", (SIZE, SIZE), 7)
    assert (decode(encode(grey, transparency=7), channels=1) == 255).all()


def test_black_and_white_bits():
    bits = np.indices((SIZE, SIZE)).sum(0) % 2 == 1
    assert (decode(encode(Image.fromarray(bits)), channels=1) == bits * 255).all()


def test_cmyk_jpeg_is_not_inverted():
    for cmyk, rgb in {(0, 255, 255, 0): (255, 0, 0), (0, 0, 0, 0): (255, 255, 255), (0, 0, 0, 255): (0, 0, 0)}.items():
        pixels = decode(encode(Image.new("CMYK", (SIZE, SIZE), cmyk), "JPEG", quality=100))
        assert np.abs(pixels.astype(int) - uniform(rgb)).max() <= 3


def sixteen_bit_grey() -> dict[str, bytes]:
    big = RAMP16.astype(">u2").tobytes()
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in RAMP16)
    return {
        "png": encode(Image.fromarray(RAMP16)),
        "png with a transparent level": png(SIZE, SIZE, 16, 0, lines, (b"tRNS", b"\0\1")),
        "little-endian tiff": encode(Image.fromarray(RAMP16), "TIFF"),
        "big-endian tiff": encode(Image.frombytes("I;16B", (SIZE, SIZE), big), "TIFF"),
        "32-bit tiff": encode(Image.fromarray(RAMP16.astype(np.int32)), "TIFF"),
        "pgm": b"P5\n8 8\n65535\n" + big,
    }


@pytest.mark.parametrize("kind", sixteen_bit_grey())
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_grey_is_scaled_not_clipped(kind, channels):
    assert (decode(sixteen_bit_grey()[kind], channels) == RAMP8).all()


def test_16_bit_colour_keeps_the_high_byte():
    rows = np.repeat(RAMP16.astype(">u2")[:, :, None], 3, 2)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    assert (decode(png(SIZE, SIZE, 16, 2, lines)) == RAMP8).all()


def test_floating_point_pixels_are_refused():
    image = Image.fromarray(np.full((SIZE, SIZE), 0.5, np.float32))
    assert "floating-point" in complaint(encode(image, "TIFF"))


TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.rot90(a, -1)[:, ::-1],
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 1)[:, ::-1],
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(RAMP8), exif=exif)
    assert (decode(data, channels=1)[0] == TURNS[orientation](RAMP8)).all()


def test_exif_orientation_comes_before_the_centre_crop():
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying, seen standing: 8 wide, 24 high
    stored = np.zeros((8, 24), np.uint8)
    stored[:, 8:16] = RAMP8
    assert (decode(encode(Image.fromarray(stored), exif=exif), channels=1)[0] == np.rot90(RAMP8, -1)).all()


@pytest.mark.parametrize("side", [SIZE, 3 * SIZE])
@pytest.mark.parametrize("before", [b"", b"\xff\xe2\x00\x08\xff\xda\xff\xda\x00\x00", b"\xff\xfe\x00\x02"])
def test_a_turned_jpeg_is_seen_whatever_segments_come_before(before, side):
    exif = Image.Exif()
    exif[0x0112] = 3
    brighter_below = np.broadcast_to(np.linspace(0, 255, side).astype(np.uint8)[:, None, None], (side, side, 3))
    data = encode(Image.fromarray(brighter_below.copy()), "JPEG", exif=exif)
    pixels = decode(data[:2] + before + data[2:]).astype(int)
    assert (pixels[:, 0] > 200).all()
    assert (pixels[:, -1] < 50).all()


@pytest.mark.parametrize(("width", "height"), [(24, 8), (8, 24), (9, 8), (8, 9)])
def test_centre_is_cropped_exactly_when_the_short_side_fits(width, height):
    pixels = np.random.default_rng(2).integers(0, 256, (height, width), dtype=np.uint8)
    left, top = (width - SIZE) // 2, (height - SIZE) // 2
    expected = pixels[top : top + SIZE, left : left + SIZE]
    assert (decode(encode(Image.fromarray(pixels)), channels=1)[0] == expected).all()


def test_large_images_are_halved_by_box_filtering_as_in_adm():
    blocks = np.kron(RAMP8, np.ones((4, 4), np.uint8))
    blocks[::2] += 2
    blocks[1::2] -= np.minimum(blocks[1::2], 2)
    once = blocks.reshape(16, 2, 16, 2).mean((1, 3))
    twice = np.round(np.round(once).reshape(8, 2, 8, 2).mean((1, 3)))
    assert np.abs(decode(encode(Image.fromarray(blocks)), channels=1)[0] - twice).max() <= 1


@pytest.mark.parametrize("shape", [(8, 8), (15, 15), (16, 40), (5, 7), (1, 1), (33, 100), (7, 8)])
def test_any_size_is_brought_to_the_wanted_one(shape):
    assert (decode(encode(Image.fromarray(np.full(shape, 77, np.uint8))), channels=1) == 77).all()
    assert decode(encode(Image.new("RGB", shape[::-1])), size=6).max() == 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(9, 8), (23, 31), (40, 25), (64, 48), (5, 7), (101, 97), (8, 300)])
def test_pixels_are_those_of_pillows_filters_to_within_a_level(shape, channels):
    noise = np.random.default_rng(4).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image = Image.fromarray(noise if channels == 3 else noise[..., 0])
    expected = np.asarray(centre_crop_with_pillow(image, SIZE)).reshape(SIZE, SIZE, channels).transpose(2, 0, 1)
    difference = np.abs(decode(encode(image), channels).astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.1


def test_a_bomb_is_refused_before_it_is_decoded():
    side = int(MAX_PIXELS**0.5) + 1
    for width, height, told in [(side, side, f"{side}x{side}"), (60_000, 60_000, "3600000000")]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            message = complaint(png(width, height, 8, 0, b""))  # decoding would find no pixels
        assert f"has {told} pixels; at most {MAX_PIXELS} are read" in message


def test_a_thin_image_cannot_grow_without_bound():
    thin = encode(Image.new("L", (200, 1)))
    assert "too narrow" in complaint(thin, channels=1, max_pixels=1000)
    assert decode(encode(Image.new("L", (15, 1))), channels=1, max_pixels=1000).max() == 0


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "PPM", "TIFF"])
def test_truncated_files_are_refused(format):
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(pixels), format)
    assert decode(data).shape == (3, SIZE, SIZE)
    for share in (0.1, 0.5, 0.9):
        assert "is not a readable image" in complaint(data[: int(len(data) * share)])


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"%!PS-Adobe-3.0 EPSF"])
def test_what_is_no_image_is_refused(data):
    assert "is not a readable image" in complaint(data)


def test_formats_that_run_programs_are_not_opened():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"
    assert "cannot identify" in complaint(eps)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "PPM"])
def test_damaged_files_give_pixels_or_a_complaint_and_nothing_else(format):
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if format in ("JPEG", "PNG", "WEBP") else {}
    data = encode(Image.fromarray(RGB), format, **options)
    rng = random.Random(4)
    refused = 0
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(rng.choice([1, 2, 5])):
            damaged[rng.randrange(rng.choice([40, len(data)]) if len(data) > 40 else len(data))] = rng.randrange(256)
        try:
            decode(bytes(damaged))
        except UserError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("side", [(40, 50), (32, 32)])
def test_decoding_loses_no_memory(side):
    pixels = np.random.default_rng(0).integers(0, 256, (*side, 3), dtype=np.uint8)
    encoded = [encode(Image.fromarray(pixels), "JPEG")] * 500
    form, out = ImageForm(32, 3), np.empty((500, 3, 32, 32), np.uint8)

    def held() -> int:
        return psutil.Process().memory_full_info().uss

    decode_images(encoded, form, str, out=out)
    before = held()
    for _ in range(4):
        decode_images(encoded, form, str, out=out)
    assert held() - before < 2**20  # simplejpeg loses 5 kB, 10 MB here, with each image that it refuses
