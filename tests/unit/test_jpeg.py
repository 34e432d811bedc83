"""The header of a JPEG is what its segments say, and nothing that lies inside them; bombs of scans are refused."""

import contextlib
import io
import re
import time
from dataclasses import replace

import numpy as np
import pytest
import simplejpeg
from encoded_images import encode, noise, segment
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dpt_ray.data.images import jpeg
from dpt_ray.data.images.decoding import ImageForm, decode_image, decode_images
from dpt_ray.data.images.jpeg import (
    MAX_SCANS,
    MAX_SCANS_OF_LARGE,
    MAX_SEGMENTS,
    JpegDecoder,
    bare_jpeg,
    max_scans,
    read_header,
    refuse_many_scans,
)
from dpt_ray.data.importing.import_plan import RawImage
from dpt_ray.data.importing.prepare import Prepared, prepare
from dpt_ray.errors import UserError

FORM = ImageForm(8, 3)
BASELINE = encode(noise(), "JPEG", quality=90)
PROGRESSIVE = encode(noise(), "JPEG", quality=90, progressive=True)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)


def complaint(data: bytes) -> str:
    with pytest.raises(UserError) as caught:
        decode_image(data, FORM, "x")
    return str(caught.value)


@pytest.mark.parametrize(("options", "frame"), [({}, 0xC0), ({"progressive": True}, 0xC2), ({"optimize": True}, 0xC0)])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_the_header_says_what_pillow_says(mode, options, frame):
    header = read_header(encode(noise(19).convert(mode).crop((0, 0, 19, 7)), "JPEG", **options))
    assert (header.width, header.height, header.colours, header.bits) == (19, 7, {"L": 1, "RGB": 3, "CMYK": 4}[mode], 8)
    assert (header.frame, header.orientation, header.clean) == (frame, 1, True)
    assert header.is_usual() == (mode != "CMYK")


def decoys(data: bytes) -> list[bytes]:
    """Return a JPEG with frames of another size, scans and whole images in places that are not read."""
    frame = b"\xff\xc0\x00\x11\x08\x40\x00\x40\x00\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    own_frame = re.search(rb"\xff[\xc0\xc2]\0\x11\x08....\x03", data, re.DOTALL).start()
    thumbnail = encode(noise(64, 1), "JPEG")
    found = []
    for content in (frame, frame.replace(b"\x40\x00", b"\x00\x08"), b"\xff\xda" + frame, thumbnail, b"\xff\xd9"):
        for marker in (0xFE, 0xE1, 0xE2, 0xED):
            found += [data[:2] + segment(marker, content) + data[2:]]
            found += [data[:own_frame] + segment(marker, content) + data[own_frame:]]
    return found


@pytest.mark.parametrize("data", [BASELINE, PROGRESSIVE])
def test_decoys_change_nothing_and_never_make_the_quick_decoder_fail(data, monkeypatch):
    expected, failed = pixels(data), []

    def watched(*given, **options):
        try:
            return decode(*given, **options)
        except ValueError:
            failed.append(1)
            raise

    decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(jpeg.simplejpeg, "decode_jpeg", watched)
    for decoy in decoys(data):
        assert np.array_equal(decode_image(decoy, FORM, "x"), expected)
    together = decode_images([data, *decoys(data), data, *decoys(data)[::-1]], FORM, str)
    assert (together == expected).all()
    assert not failed  # it loses memory whenever it fails


@given(st.lists(st.sampled_from(range(7)), min_size=2, max_size=12))
def test_what_is_remembered_of_one_image_changes_no_other(order):
    others = [
        BASELINE,
        encode(noise(seed=1), "JPEG", quality=90),
        encode(noise(seed=2), "JPEG", quality=60, optimize=True),
        encode(noise(seed=3), "JPEG", quality=60, optimize=True),
        PROGRESSIVE,
        encode(noise(24, 4), "JPEG"),
        encode(noise(seed=5).convert("L"), "JPEG"),
    ]
    chosen = [others[number] for number in order]
    for channels in (1, 3):
        form = ImageForm(8, channels)
        expected = [decode_image(data, form, "x") for data in chosen]
        assert np.array_equal(decode_images(chosen, form, str), expected)


def test_an_image_of_known_beginning_that_goes_on_otherwise_is_walked():
    header = read_header(BASELINE)
    exif = segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")
    turned = BASELINE[: header.scan] + exif + BASELINE[header.scan :]
    decoder, out = JpegDecoder(8, 3), np.empty((8, 8, 3), np.uint8)
    assert decoder.decode(BASELINE, header, out) is out
    assert decoder.decode_usual(BASELINE, out)
    optimised = encode(noise(seed=1), "JPEG", quality=90, optimize=True)
    assert decoder.decode_usual(optimised, out)
    assert np.array_equal(out.transpose(2, 0, 1), pixels(optimised))
    assert not decoder.decode_usual(turned, out)
    assert not decoder.decode_usual(PROGRESSIVE, out)
    for length in range(len(BASELINE) - 4):
        decoder.decode_usual(BASELINE[:length], out)
    images = decode_images([BASELINE, turned], FORM, str)
    assert np.array_equal(images[1], np.rot90(images[0], -1, (1, 2)))


@given(st.binary(max_size=60), st.integers(0, 700))
def test_damaged_headers_give_an_image_or_a_complaint(noise_bytes, place):
    damaged = BASELINE[:place] + noise_bytes + BASELINE[place + len(noise_bytes) :]
    with contextlib.suppress(UserError):
        decode_image(damaged, FORM, "x")


def test_a_bare_jpeg_has_the_same_pixels_and_nothing_else():
    data = BASELINE[:2] + segment(0xE1, b"Exif\0\0" + b"\xff" * 50) + segment(0xFE, b"hello") + BASELINE[2:]
    assert bare_jpeg(data, read_header(data)) == BASELINE
    cmyk = encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    assert b"Adobe" in bare_jpeg(cmyk, read_header(cmyk))


def with_scans(count: int, side: int = 8, junk: bytes = b"") -> bytes:
    """Return a progressive image with one of its scans repeated, to `count` in all."""
    data = encode(noise(side), "JPEG", progressive=True, quality=50)
    scans = [match.start() for match in re.finditer(rb"\xff\xda", data)]
    start = data.rindex(b"\xff\xc4", 0, scans[-1])
    return data[:-2] + (junk + data[start:-2]) * (count - len(scans)) + data[-2:]


def test_usual_progressive_images_pass_and_bombs_of_scans_do_not():
    assert PROGRESSIVE.count(b"\xff\xda") >= 8
    assert np.array_equal(decode_image(with_scans(MAX_SCANS), FORM, "x"), pixels(with_scans(MAX_SCANS)))
    for side in (8, 40):
        for channels in (1, 3):
            with pytest.raises(UserError, match=f"more than {MAX_SCANS} scans"):
                decode_image(with_scans(MAX_SCANS + 1, side), ImageForm(8, channels), "x")
    assert "scans" in complaint(with_scans(30_000))
    result = prepare(RawImage("a.jpg", "a", with_scans(200), 0, "jpg", own_file=True), None, 10**6)
    assert "scans" in result.reason


def test_large_images_may_have_fewer_scans():
    assert [max_scans(pixels) for pixels in (0, 64, 10_000_000, 20_000_000, 64_000_000, 10**9)] == [
        MAX_SCANS, MAX_SCANS, MAX_SCANS, 50, MAX_SCANS_OF_LARGE, MAX_SCANS_OF_LARGE,
    ]  # fmt: skip
    header = read_header(with_scans(11))
    large = replace(header, width=8000, height=8000)
    most = max_scans(64_000_000)
    refuse_many_scans(with_scans(most), large)
    with pytest.raises(ValueError, match=f"8000x8000 pixels with more than {most} scans"):
        refuse_many_scans(with_scans(most + 1), large)
    refuse_many_scans(with_scans(most + 1), header)


def test_scans_of_other_images_do_not_count():
    thumbnails = b"".join(segment(0xE2, PROGRESSIVE * 5) for _ in range(10))
    inside = BASELINE[:2] + thumbnails + BASELINE[2:]
    behind = BASELINE + PROGRESSIVE * 50
    for data in (inside, behind):
        assert data.count(b"\xff\xda") > MAX_SCANS
        assert np.array_equal(decode_image(data, FORM, "x"), pixels(BASELINE))


def test_endless_headers_are_refused_at_once():
    began = time.process_time()
    own = len(read_header(BASELINE).segments)
    most = BASELINE[:2] + segment(0xFE, b"") * (MAX_SEGMENTS - own) + BASELINE[2:]
    assert np.array_equal(decode_image(most, FORM, "x"), pixels(BASELINE))
    assert "more than 1,000 segments" in complaint(most[:2] + segment(0xFE, b"") + most[2:])
    assert f"more than {MAX_SEGMENTS:,} segments" in complaint(BASELINE[:2] + segment(0xFE, b"") * 10**6 + BASELINE[2:])
    assert "ends within its header" in complaint(BASELINE[:4] + b"x" * 10**7)
    assert "ends within its header" in complaint(BASELINE[:2] + segment(0xE0, b"") + b"\xff" * 10**5)
    between = with_scans(MAX_SCANS + 1, junk=segment(0xFE, b"") * 20)
    assert "more than" in complaint(between)
    assert time.process_time() - began < 2


def test_an_mpo_is_its_first_picture_and_is_stored_as_the_jpeg_that_it_begins_with():
    second = noise(seed=9)
    data = encode(noise(), "MPO", save_all=True, append_images=[second], quality=90)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert np.array_equal(decode_image(data, FORM, "x"), pixels(BASELINE))
    for extension in ("jpg", "mpo", "png", ""):
        result = prepare(RawImage("a", "a", data, None, extension, own_file=True), None, 10**6)
        assert isinstance(result, Prepared)
        assert result.sample.files == {extension if extension in ("jpg", "mpo") else "jpg": data}
    assert set(prepare(RawImage("a", "a", data, None, "mpo"), 4, 10**6).sample.files) == {"png"}


@pytest.mark.parametrize(("height", "width"), [(32, 48), (48, 32), (40, 56)])
def test_jpegs_that_are_cropped_do_not_overwrite_each_other(height, width):
    """Where the short side fits, the crop is a view of what the decoder returned, and later images follow."""
    files = [encode(noise(64, seed).crop((0, 0, width, height)), "JPEG") for seed in range(4)]
    form = ImageForm(32, 3)
    together = decode_images(files, form, str)
    for image, data in zip(together, files, strict=True):
        np.testing.assert_array_equal(image, decode_image(data, form, "x"))


def test_what_the_decoder_returned_outlives_the_next_call():
    files = [encode(noise(64, seed).crop((0, 0, 64, 48)), "JPEG") for seed in range(2)]
    decoder, out = JpegDecoder(32, 3), np.empty((32, 32, 3), np.uint8)
    first = decoder.decode(files[0], read_header(files[0]), out)
    before = first.copy()
    decoder.decode(files[1], read_header(files[1]), out)
    np.testing.assert_array_equal(first, before)
