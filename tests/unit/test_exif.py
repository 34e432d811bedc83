"""The orientation of an image is found wherever a file has it, and nothing in an EXIF block can raise."""

import io
import struct
import time
import warnings

import numpy as np
import pytest
from encoded_images import chunk, encode, exif_block, noise, segment, turned_block
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from dpt_ray.data.images.decoding import ImageForm, decode_image
from dpt_ray.data.images.exif import orientation, turn
from dpt_ray.data.importing.import_plan import RawImage
from dpt_ray.data.importing.prepare import Prepared, prepare

ORDERS = st.sampled_from("<>")
TYPES = {3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 11: "f", 12: "d", 13: "L"}
XMP = b"http://ns.adobe.com/xap/1.0/\0"


def by_pillow(block: bytes) -> object:
    exif = Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exif.load(block)
        return exif.get(0x112, 1)


@given(ORDERS, st.sampled_from([*TYPES, 1, 2, 5, 7, 10]), st.integers(0, 9), st.integers(1, 3))
def test_every_type_of_orientation_counts_as_in_pillow(order, kind, value, count):
    if kind in TYPES:
        content = struct.pack(f"{order}{count}{TYPES[kind]}", *[value] * count)
    elif kind in (5, 10):
        content = struct.pack(f"{order}{2 * count}l", *[value, 1] * count)
    else:
        content = bytes([value]) * count
    block = exif_block([(0x112, kind, count, content)], order)
    expected = by_pillow(block)
    assert orientation(block) == (int(expected) if expected in range(2, 9) and kind not in (1, 2, 7) else 1)


@given(
    ORDERS,
    st.integers(1, 8),
    st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 20), st.integers(0, 9), st.binary(max_size=9))),
    st.integers(0, 5),
)
def test_other_entries_do_not_matter(order, stated, others, place):
    entries = [entry for entry in others if entry[0] != 0x112]
    entries.insert(min(place, len(entries)), (0x112, 3, 1, struct.pack(f"{order}H", stated)))
    assert orientation(b"Exif\0\0" + exif_block(entries, order)) == stated


HEADS = [b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"Exif\0\0MM\0*\0\0\0\x08", b"II*\0\xff\xff\xff\xff"]


@given(st.sampled_from(HEADS), st.binary(max_size=80), st.binary(max_size=40) | st.text(max_size=40))
def test_nothing_raises(head, rest, xmp):
    assert orientation(head + rest, xmp) in range(1, 9)


@given(ORDERS, st.integers(2, 8), st.data())
def test_a_cut_or_changed_block_gives_an_orientation(order, stated, data):
    block = bytearray(turned_block(stated, order))
    for place in data.draw(st.lists(st.integers(0, len(block) - 1), max_size=3)):
        block[place] = data.draw(st.integers(0, 255))
    assert orientation(bytes(block[: data.draw(st.integers(0, len(block)))])) in range(1, 9)


def test_directories_that_lead_back_are_not_followed_and_large_ones_take_no_time():
    block = exif_block([(0x8769, 4, 1, struct.pack(">L", 8))] * 3)
    assert orientation(block[:-4] + struct.pack(">L", 8)) == 1
    large = exif_block([(7, 7, 2**32 - 1, b"\0\0\0\x08")])
    large = large[:8] + b"\xff\xff" + large[10:22] * 65535 + bytes(10**7)
    began = time.process_time()
    assert orientation(large) == 1
    assert time.process_time() - began < 1


@pytest.mark.parametrize("text", ['<a tiff:Orientation="6"/>', "<tiff:Orientation>6</tiff:Orientation>"])
def test_xmp_counts_where_exif_says_nothing(text):
    for xmp in (text, text.encode()):
        assert orientation(b"", xmp) == 6
        assert orientation(turned_block(3), xmp) == 3
        assert orientation(exif_block([(0x128, 3, 1, b"\0\2")]), xmp) == 6


@pytest.mark.parametrize("stated", range(9))
def test_images_are_turned_as_pillow_turns_them(stated):
    image = noise().crop((0, 0, 8, 5))
    exif = Image.Exif()
    exif[0x112] = stated
    stored = Image.open(io.BytesIO(encode(image, exif=exif)))
    expected = ImageOps.exif_transpose(stored)
    assert np.array_equal(np.asarray(turn(image, orientation(turned_block(stated)))), np.asarray(expected))


def places_in_jpeg(jpeg: bytes, block: bytes) -> dict[str, bytes]:
    """Put an EXIF block into a JPEG wherever it may stand."""
    exif = segment(0xE1, b"Exif\0\0" + block)
    frame = next(place for place in range(len(jpeg)) if jpeg[place : place + 2] in (b"\xff\xc0", b"\xff\xc2"))
    behind = frame + 2 + int.from_bytes(jpeg[frame + 2 : frame + 4], "big")
    scan = jpeg.index(b"\xff\xda", behind)
    head = jpeg[:2]
    return {
        "first": head + exif + jpeg[2:],
        "behind JFIF": jpeg[:20] + exif + jpeg[20:],
        "before the frame": jpeg[:frame] + exif + jpeg[frame:],
        "behind the frame": jpeg[:behind] + exif + jpeg[behind:],
        "before the scan": jpeg[:scan] + exif + jpeg[scan:],
        "behind XMP": head + segment(0xE1, XMP + b"<x/>") + exif + jpeg[2:],
        "behind another APP1": head + segment(0xE1, b"anything") + exif + jpeg[2:],
        "behind filling": head + b"\xff\xff\xff" + exif + jpeg[2:],
        "behind junk": jpeg[:20] + b"junk\xff\0" + exif + jpeg[20:],
        "in two segments": head + segment(0xE1, b"Exif\0\0" + block[:20]) + segment(0xE1, b"Exif\0\0" + block[20:])
        + jpeg[2:],
        "behind a comment with frames": head + segment(0xFE, jpeg[frame:behind] * 2 + b"\xff\xda") + exif + jpeg[2:],
    }  # fmt: skip


ODD = [
    (0x11A, 10, 1, struct.pack(">ll", -1, 0)),
    (0x128, 4, 1, struct.pack(">L", 70000)),
    (0x8769, 4, 1, struct.pack(">L", 2**31)),
    (0x9999, 99, 7, b"\0\0\0\0"),
]
"""Entries that Pillow cannot write again, or not even read."""


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("side", [8, 24, 11])
def test_equal_pixels_wherever_exif_stands_on_every_path(side, options):
    image = noise(side)
    jpeg = encode(image, "JPEG", quality=95, **options)
    for stated in (3, 6):
        block = exif_block([(0x112, 3, 1, struct.pack(">H", stated)), *ODD])
        for channels in (1, 3):
            form = ImageForm(8, channels)
            upright = Image.open(io.BytesIO(jpeg)).convert("RGB" if channels == 3 else "L")
            expected = decode_image(encode(turn(upright, stated)), form, "x")
            for name, data in places_in_jpeg(jpeg, block).items():
                assert np.abs(decode_image(data, form, "x").astype(int) - expected).max() <= 1, name
                result = prepare(RawImage("a.jpg", "a", data, 0, "jpg", own_file=True), 8, 10**6)
                assert isinstance(result, Prepared), name
                assert set(result.sample.files) == {"png", "cls"}
                stored = decode_image(result.sample.files["png"], form, "x")
                assert np.abs(stored.astype(int) - expected).max() <= 1


def test_png_webp_tiff_and_avif_are_turned_whatever_else_their_blocks_hold():
    image = noise()
    block = exif_block([(0x112, 3, 1, b"\0\6"), *ODD])
    png = encode(image)
    end = png.index(b"IEND") - 4
    expected = np.asarray(image.transpose(Image.Transpose.ROTATE_270)).transpose(2, 0, 1)
    text = "\nexif\n      38\n" + (b"Exif\0\0" + block).hex()
    files = {
        "png": png[:33] + chunk(b"eXIf", block) + png[33:],
        "png, behind its pixels": png[:end] + chunk(b"eXIf", block) + png[end:],
        "png by ImageMagick": png[:33] + chunk(b"tEXt", b"Raw profile type exif\0" + text.encode()) + png[33:],
        "webp": encode(image, "WEBP", lossless=True, exif=block),
        "tiff": encode(image, "TIFF", tiffinfo={0x112: 6}),
        "compressed tiff": encode(image, "TIFF", tiffinfo={0x112: 6}, compression="tiff_lzw"),
    }
    for name, data in files.items():
        assert np.array_equal(decode_image(data, ImageForm(8, 3), "x"), expected), name
    exif = Image.Exif()
    exif[0x112] = 6
    avif = decode_image(encode(image, "AVIF", quality=100, exif=exif), ImageForm(8, 3), "x")
    straight = decode_image(encode(image, "AVIF", quality=100), ImageForm(8, 3), "x")
    assert np.array_equal(avif, np.rot90(straight, -1, (1, 2)))


def test_a_hexadecimal_profile_that_is_none_turns_nothing():
    image = noise()
    png = encode(image)
    data = png[:33] + chunk(b"tEXt", b"Raw profile type exif\0\nexif\n  8\nno hexadecimal") + png[33:]
    assert np.array_equal(decode_image(data, ImageForm(8, 3), "x"), np.asarray(image).transpose(2, 0, 1))
