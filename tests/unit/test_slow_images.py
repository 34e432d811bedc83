"""What Pillow decodes slowly, and headers without end, is refused before it is decoded; what people have is read."""

import struct
import time
import zlib

import numpy as np
import pytest
from encoded_images import chunk, encode, noise
from PIL import Image

from dpt_ray.data.images.decoding import ImageForm, decode_image
from dpt_ray.data.images.slow_images import (
    MAX_CHUNKS,
    MAX_DEEP_PIXELS,
    MAX_PLAIN_BYTES,
    MAX_PLAIN_COMMENTS,
    MAX_QOI_STEPS,
    MAX_SCALED_VALUES,
    MAX_TAG_VALUES,
    slow_header,
)
from dpt_ray.data.importing.import_plan import RawImage
from dpt_ray.data.importing.prepare import prepare
from dpt_ray.errors import UserError

FORM = ImageForm(8, 3)
SECONDS = 1
"""What a refusal may take; decoding these images would take from 5 s to minutes."""


def decode(data: bytes) -> np.ndarray:
    return decode_image(data, FORM, "x")


def refusal(data: bytes) -> str:
    """What an image is refused with on all ways, soon."""
    began = time.process_time()
    with pytest.raises(UserError) as caught:
        decode(data)
    told = str(caught.value).removeprefix("x: ")
    assert prepare(RawImage("a", "a", data, 1), None, 10**8).reason == told
    assert time.process_time() - began < SECONDS
    return told


def qoi(width: int, height: int, steps: bytes) -> bytes:
    return b"qoif" + struct.pack(">II", width, height) + b"\x03\0" + steps + bytes(7) + b"\1"


def test_a_qoi_is_read_up_to_a_number_of_steps():
    grey = b"\xfe\x55\x55\x55"
    runs = grey + b"\xfd" * (6_000_000 // 62 + 1)  # 62 pixels for each byte, which is quick
    assert (decode(qoi(3000, 2000, runs)) == 0x55).all()
    side = int(MAX_QOI_STEPS**0.5) + 1
    message = refusal(qoi(side, side, b"\xc0" * side**2))
    assert f"is a QOI of {side}x{side} pixels" in message
    assert "at most 2,000,000 are read: convert it to PNG" in message


def test_a_ppm_whose_values_are_scaled_is_read_up_to_a_number_of_values():
    assert (decode(b"P6 8 8 15\n" + b"\x05" * 192) == 0x55).all()
    for kind, channels in ((b"P5", 1), (b"P6", 3)):
        width = MAX_SCALED_VALUES // channels // 1000 + 1
        content = bytes(width * 1000 * channels)
        assert "whose largest value is not 255; at most 2,000,000" in refusal(kind + b" %d 1000 15\n" % width + content)
        assert decode(kind + b" %d 1000 255\n" % width + content).max() == 0
        assert decode(kind + b" %d 1000 4095\n" % width + content * 2).max() == 0


def test_a_ppm_in_digits_is_read_up_to_a_size_and_a_number_of_comments():
    head, values = b"P3 8 8 255\n", b"85 " * 192
    comments = b"#x\n" * MAX_PLAIN_COMMENTS
    assert (decode(head + comments + values) == 85).all()
    assert "with 1,001 comments; at most 1,000" in refusal(head + b"#x\n" + comments + values)
    assert "with 600,001 comments" in refusal(head + b"#x\n" * 600_001 + values)
    assert "in digits of 16,000,0" in refusal(head + values.ljust(MAX_PLAIN_BYTES))


def with_chunks(count: int, name: bytes = b"tEXt") -> bytes:
    """Return a PNG with so many further chunks, half of them behind its pixels."""
    data = encode(noise())
    first, last = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
    further = [chunk(name, b"a\0b")] * count
    half = b"".join(further[: count // 2])
    return data[:first] + half + data[first:last] + half + b"".join(further[count // 2 * 2 :]) + data[last:]


def test_a_png_is_read_up_to_a_number_of_chunks():
    pixels = decode(encode(noise()))
    assert np.array_equal(decode(with_chunks(MAX_CHUNKS - 2)), pixels)  # beside the first and the last one
    for count in (MAX_CHUNKS - 1, 1_000_000):
        assert "is a PNG with more than 10,000 chunks beside its pixels" in refusal(with_chunks(count))


def test_pixels_in_many_chunks_and_animations_are_read():
    data = encode(noise(64))
    start, stop = data.index(b"IDAT") + 4, data.index(b"IEND") - 8
    cut = b"".join(chunk(b"IDAT", data[place : place + 1]) for place in range(start, stop))
    assert cut.count(b"IDAT") > MAX_CHUNKS
    assert np.array_equal(decode(data[: start - 8] + cut + data[stop + 4 :]), decode(data))
    frames = [Image.new("L", (8, 8), grey % 256) for grey in range(MAX_CHUNKS // 2 + 1)]
    animation = encode(frames[0], save_all=True, append_images=frames[1:])
    assert animation.count(b"fcTL") + animation.count(b"fdAT") > MAX_CHUNKS
    assert slow_header(animation) is None
    assert decode(animation).max() == 0


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", encode(noise())[:60], encode(noise())[:-1]])
def test_a_header_that_ends_early_is_left_to_the_decoder(data):
    assert slow_header(data) is None


@pytest.mark.parametrize("mark", ["II*\0", "II\0*", "MM\0*", "MM*\0", "II+\0"])
def test_a_tiff_is_read_up_to_a_number_of_values_in_a_tag(mark):
    assert (decode(tiff(mark, 1, MAX_TAG_VALUES + 1)) == 0x55).all()
    assert (decode(tiff(mark, 4, 1000)) == 0x55).all()
    assert f"more than {MAX_TAG_VALUES:,} numbers in tag 700" in refusal(tiff(mark, 4, MAX_TAG_VALUES + 1))


def tiff(mark: str, kind: int, values: int) -> bytes:
    """A grey image of 8x8 pixels with an XMP tag of so many values of a type: 1 is bytes, 4 numbers of 4 bytes."""
    order, is_big = "<" if mark[0] == "I" else ">", "+" in mark
    offset, count, head = ("Q", "Q", 16) if is_big else ("I", "H", 8)
    xmp = bytes(values * kind)
    entries = [(256, 8), (257, 8), (258, 8), (259, 1), (262, 1), (273, head), (277, 1), (278, 8), (279, 64)]
    tags = b"".join(struct.pack(f"{order}HH{offset}{offset}", tag, 16 if is_big else 4, 1, v) for tag, v in entries)
    tags += struct.pack(f"{order}HH{offset}{offset}", 700, kind, values, head + 64)
    first = (
        struct.pack(f"{order}HHQ", 8, 0, head + 64 + len(xmp))
        if is_big
        else struct.pack(f"{order}I", head + 64 + len(xmp))
    )
    directory = struct.pack(f"{order}{count}", len(entries) + 1) + tags + struct.pack(f"{order}{offset}", 0)
    return mark.encode() + first + b"\x55" * 64 + xmp + directory


def test_channels_of_16_bits_are_read_up_to_a_size():
    assert (decode(deep_png(64, 64)) == 0x55).all()
    side = int(MAX_DEEP_PIXELS**0.5) + 1
    message = refusal(deep_png(side, side))
    assert f"has {side}x{side} pixels of 16 bits a channel; at most 32,000,000 are read" in message


def deep_png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    pressed = zlib.compressobj(1)
    row = b"\0" + b"\x55" * (6 * width)
    pixels = b"".join(pressed.compress(row) for _ in range(height)) + pressed.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
