"""Images of more than 8 bits use the range of brightness, by what the file states or else by their data set."""

import io
import struct
import zlib

import numpy as np
import pytest
from encoded_images import encode, png16, tiff_file
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dpt_ray.data.images.decoding import ImageForm, decode_image, decode_images
from dpt_ray.data.images.white_level import Levels, WhiteLevel, level_facts, say_levels, white_level
from dpt_ray.data.importing.import_plan import RawImage
from dpt_ray.data.importing.prepare import Prepared, prepare
from dpt_ray.errors import UserError

SIDE = 8
RAMP = np.linspace(0, 1, SIDE * SIDE).reshape(SIDE, SIDE)


def ramp(bits: int, channels: int = 1) -> np.ndarray:
    """Return levels from 0 to the largest of so many bits, the same in each channel: uint16 (H, W, C)."""
    levels = np.round(RAMP * (2**bits - 1)).astype(np.uint16)
    return np.repeat(levels[..., None], channels, 2)


def highest_bits(values: np.ndarray, bits: int) -> np.ndarray:
    return (values >> (bits - 8)).astype(np.uint8).transpose(2, 0, 1)


def decode(data: bytes, channels: int = 1, white: int | None = None, levels: Levels | None = None) -> np.ndarray:
    return decode_images([data], ImageForm(SIDE, channels, white=white), str, levels=levels)[0]


def tiff(values: np.ndarray, **tags) -> bytes:
    return encode(Image.fromarray(values[..., 0]), "TIFF", tiffinfo={int(k[1:]): v for k, v in tags.items()})


def colour_tiff(values: np.ndarray, order: str, compressed: bool = False) -> bytes:
    content = values.astype(f"{order}u2").tobytes()
    return tiff_file(zlib.compress(content) if compressed else content, SIDE, (16,) * 3, order, 8 if compressed else 1)


def unstated(bits: int) -> dict[str, bytes]:
    """Return files that do not say how many of their bits are used, by name."""
    grey, colour = ramp(bits), ramp(bits, 3)
    return {
        "png": png16(grey),
        "png in colour": png16(colour),
        "tiff": tiff(grey),
        "big-endian tiff": encode(Image.frombytes("I;16B", (SIDE, SIDE), grey.astype(">u2").tobytes()), "TIFF"),
        "compressed tiff": encode(Image.fromarray(grey[..., 0]), "TIFF", compression="tiff_lzw"),
        "tiff of 32 bits": encode(Image.fromarray(grey[..., 0].astype(np.int32)), "TIFF"),
        "tiff in colour": colour_tiff(colour, "<"),
        "big-endian tiff in colour": colour_tiff(colour, ">"),
        "compressed tiff in colour": colour_tiff(colour, "<", compressed=True),
        "pgm": b"P5\n8 8\n65535\n" + grey.astype(">u2").tobytes(),
        "ppm": b"P6\n8 8\n65535\n" + colour.astype(">u2").tobytes(),
        "jpeg 2000": encode(Image.fromarray(grey[..., 0]), "JPEG2000"),
    }


@pytest.mark.parametrize("bits", [8, 10, 11, 12, 14, 16])
@pytest.mark.parametrize("name", unstated(12))
def test_the_level_of_the_data_set_is_white(name, bits):
    data, levels = unstated(bits)[name], Levels()
    expected = highest_bits(ramp(bits), bits)
    assert np.array_equal(decode(data, white=2**bits - 1, levels=levels), expected)
    assert levels == Levels(1, 2**bits - 1)
    assert white_level(levels.largest) == 2**bits - 1
    assert np.array_equal(decode(data, 3, white=2**bits - 1), np.repeat(expected, 3, 0))
    assert np.array_equal(decode(data), highest_bits(ramp(bits), 16))


def test_transparency_of_16_bits_has_the_range_of_its_image():
    for bits in (12, 16):
        white = 2**bits - 1
        for opacity, expected in ((white, 0), (0, 255)):
            for values in ([0, opacity], [0, 0, 0, opacity]):
                image = png16(np.broadcast_to(np.array(values, np.uint16), (SIDE, SIDE, len(values))))
                grey = decode(image, white=white)
                assert (grey == (expected if opacity else 255)).all()
    keyed = decode(png16(ramp(12), (b"tRNS", struct.pack(">H", 4095))), white=65535)
    assert keyed[0, -1, -1] == 255
    assert keyed[0, -1, -2] < 16
    coloured = decode(png16(ramp(12, 3), (b"tRNS", struct.pack(">HHH", 4095, 4095, 4095))), 3, white=65535)
    assert (coloured[:, -1, -1] == 255).all()
    assert (coloured[:, -1, -2] < 16).all()


def stated(bits: int) -> dict[str, bytes]:
    """Return files that say how many bits they use, by name."""
    grey, colour, white = ramp(bits), ramp(bits, 3), 2**bits - 1
    scaled = (grey.astype(np.uint32) << (16 - bits) | grey >> (2 * bits - 16)).astype(np.uint16)
    files = {
        "png": png16(grey, (b"sBIT", bytes([bits]))),
        "png in colour": png16(colour, (b"sBIT", bytes([bits] * 3))),
        "png, scaled as it should be": png16(scaled, (b"sBIT", bytes([bits]))),
        "tiff": tiff(grey, t281=white),
        "pgm": b"P5\n8 8\n%d\n" % white + grey.astype(">u2").tobytes(),
        "pgm with a comment": b"P5\n# 1 2 3 4\n8 8\n%d\n" % white + grey.astype(">u2").tobytes(),
        "ppm": b"P6\n8 8\n%d\n" % white + colour.astype(">u2").tobytes(),
    }
    if bits == 12:
        pairs = grey.reshape(-1, 2).astype(np.uint32)
        packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], -1)
        files["tiff of 12 bits"] = tiff_file(packed.astype(np.uint8).tobytes(), SIDE, (12,))
    return files


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 15])
def test_what_a_file_states_comes_before_its_data_set(bits):
    expected = highest_bits(ramp(bits), bits).astype(int)
    for name, data in stated(bits).items():
        for white in (None, 1023, 65535):
            levels = Levels()
            found = decode(data, white=white, levels=levels)
            assert np.abs(found - expected).max() <= 1, (name, white)
            assert levels == Levels(), name


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_dark_image_that_states_its_bits_stays_dark_whichever_way_it_was_written(bits):
    dark = ramp(bits) // 16
    expected = highest_bits(dark, bits).astype(int)
    scaled = (dark.astype(np.uint32) << (16 - bits) | dark >> (2 * bits - 16)).astype(np.uint16)
    for values in (dark, scaled):
        found = decode(png16(values, (b"sBIT", bytes([bits]))))
        assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(
    "data",
    [
        png16(ramp(12), (b"sBIT", b"\x10")),
        png16(ramp(12), (b"sBIT", b"")),
        tiff(ramp(12), t281=65535),
        tiff(ramp(12), t281=3287),  # the largest value of this image, or of a crop of it
        tiff(ramp(12), t281=1023),
        tiff(ramp(12), t281=0),
    ],
)
def test_what_states_nothing_or_is_contradicted_is_left_to_the_data_set(data):
    levels = Levels()
    assert np.array_equal(decode(data, white=4095, levels=levels), highest_bits(ramp(12), 12))
    assert levels.images == 1


def test_where_zero_is_white_the_image_is_inverted():
    assert np.array_equal(decode(tiff(ramp(12), t262=0), white=4095), 255 - highest_bits(ramp(12), 12))


def test_values_below_zero_and_fractions_are_refused():
    for values in (np.full((SIDE, SIDE), -5, np.int32), np.full((SIDE, SIDE), 0.5, np.float32)):
        with pytest.raises(UserError, match="whose range is not known"):
            decode_image(encode(Image.fromarray(values), "TIFF"), ImageForm(SIDE, 1), "x")


def test_values_above_white_become_white():
    assert decode(png16(ramp(16)), white=4095).max() == 255
    assert (np.diff(decode(png16(ramp(16)), white=4095).ravel().astype(int)) >= 0).all()


@given(st.integers(0, 2**20))
def test_the_white_level_leaves_no_value_out_and_half_of_the_range_unused_at_most(largest):
    white = white_level(largest)
    assert white & (white + 1) == 0
    assert max(largest, 255) <= white < 2 * max(largest, 128)


def test_brightness_does_not_depend_on_what_else_is_in_the_picture():
    levels = Levels()
    files = [png16(ramp(12)), png16(ramp(12) // 2), png16(ramp(12) // 3)]
    decode_images(files, ImageForm(SIDE, 1), str, levels=levels)
    white = white_level(levels.largest)
    for part, data in enumerate(files, start=1):
        assert np.array_equal(decode(data, white=white), highest_bits(ramp(12) // part, 12))


def test_a_set_is_told_with_its_level():
    assert level_facts([(0, 0), (0, 0)], None) is None
    assert say_levels(None) == ""
    facts = level_facts([(2, 4000), (1, 3000)], None)
    assert facts == WhiteLevel(images=3, largest=4000, white=4095)
    assert (
        say_levels(facts) == "3 images of 16 bits, of which 12 are used: values go up to 4,000, and 4,095 becomes 255"
    )
    assert level_facts([(2, 1000)], 4095).white == 4095  # the training data's


def test_prepared_images_are_8_bits_by_the_level_and_copied_ones_are_not_counted():
    data = png16(np.kron(ramp(12), np.ones((2, 2, 1), np.uint16)))
    levels = Levels()
    result = prepare(RawImage("a.png", "a", data, 0, "png"), SIDE, 10**6, 4095, levels)
    assert isinstance(result, Prepared)
    with Image.open(io.BytesIO(result.sample.files["png"])) as stored:
        assert stored.mode == "L"
        assert np.abs(np.asarray(stored).astype(int) - highest_bits(ramp(12), 12)[0]).max() <= 1
    assert levels == Levels(1, 4095)
    copied = Levels()
    assert prepare(RawImage("a.png", "a", data, 0, "png"), None, 10**6, None, copied).sample.files["png"] == data
    assert copied == Levels()


def test_while_the_sets_level_is_not_known_a_dark_image_is_seen_by_its_own():
    seen = []
    for shade in (600, 700):
        buffer = io.BytesIO()
        Image.fromarray(np.full((8, 8), shade, np.uint16)).save(buffer, "PNG")
        levels = Levels()
        images = decode_images([buffer.getvalue()], ImageForm(8, 1), lambda row: "x", levels=levels)
        seen.append(int(images.max()))
    assert seen == [600 >> 2, 700 >> 2]
