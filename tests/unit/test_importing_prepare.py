"""One image on its way into a shard: copied as it is where that will do, else cropped without loss."""

import io

import numpy as np
import pytest
from importing_data import encoded, noise
from PIL import Image

from dpt_ray.data.images.crop import centre_crop
from dpt_ray.data.images.decoding import MAX_PIXELS, encode_png
from dpt_ray.data.importing.import_plan import RawImage
from dpt_ray.data.importing.prepare import prepare
from dpt_ray.data.shards.skipped import Skipped


def prepared(data, size=None, extension="png", label=3, max_pixels=MAX_PIXELS):
    return prepare(RawImage("memory://a/b.png", "b", data, label, extension, own_file=True), size, max_pixels)


def opened(sample) -> Image.Image:
    return Image.open(io.BytesIO(sample.files["png"]))


def saved(image: Image.Image, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1", "I;16"])
def test_without_a_size_every_image_is_copied(mode):
    data = encoded(7, 5, mode=mode)
    result = prepared(data)
    assert result.sample.files == {"png": data, "cls": b"3"}
    assert result.size == (7, 5)
    assert prepared(data, label=None).sample.files == {"png": data}


def test_pixels_become_png_and_content_tells_the_extension():
    pixels = noise(0, 6, 4).transpose(2, 0, 1)
    result = prepared(pixels, extension=None)
    assert np.array_equal(np.asarray(opened(result.sample)), pixels.transpose(1, 2, 0))
    for form, extension in (("JPEG", "jpg"), ("GIF", "gif"), ("WEBP", "webp"), ("TIFF", "tif"), ("PPM", "ppm")):
        assert set(prepared(encoded(form=form), extension=None).sample.files) == {extension, "cls"}


def test_images_are_cropped_as_adm_does_and_stored_without_loss():
    image = Image.fromarray(noise(1, 50, 37))
    for form in ("PNG", "BMP"):
        result = prepared(saved(image, form), size=12, extension=form.lower())
        assert set(result.sample.files) == {"png", "cls"}
        planes = centre_crop(np.array(image), 12, MAX_PIXELS)
        assert np.array_equal(np.asarray(opened(result.sample)), planes.transpose(1, 2, 0))
        assert result.size == (50, 37)


def test_grey_stays_grey():
    image = Image.fromarray(noise(2, 30, 20)[..., 0])
    stored = opened(prepared(saved(image), size=8).sample)
    assert stored.mode == "L"
    assert np.array_equal(np.asarray(stored), centre_crop(np.array(image)[..., None], 8, MAX_PIXELS)[0])


def test_an_image_of_the_size_that_needs_nothing_is_copied():
    for data, extension in (
        (encoded(8, 8), "png"),
        (encoded(8, 8, form="JPEG"), "jpg"),
        (encoded(8, 8, mode="L"), "png"),
    ):
        assert prepared(data, size=8, extension=extension).sample.files[extension] == data


@pytest.mark.parametrize("mode", ["P", "RGBA", "1", "I;16"])
def test_an_image_of_the_size_in_another_form_is_converted(mode):
    stored = opened(prepared(encoded(8, 8, mode=mode), size=8).sample)
    assert stored.size == (8, 8)
    assert stored.mode == ("L" if mode in ("1", "I;16") else "RGB")


def test_a_turned_image_is_set_upright():
    image = Image.fromarray(noise(3, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 3
    stored = opened(prepared(saved(image, exif=exif), size=8).sample)
    assert np.array_equal(np.asarray(stored), np.asarray(image)[::-1, ::-1])


@pytest.mark.parametrize(
    ("data", "options", "reason"),
    [
        (b"", {}, "is empty"),
        (b"no image", {}, "is not a readable image (cannot identify image file)"),
        (encoded(30, 30), {"max_pixels": 899}, "has 30x30 pixels; at most 899 are read"),
        (encode_png(noise(0, 40, 40).transpose(2, 0, 1))[:300], {}, "is not a readable image (image file is truncated"),
        (encoded(1, 3000), {"size": 64, "max_pixels": 9999}, "cannot be brought to 64x64 pixels (too narrow"),
    ],
)
def test_what_cannot_be_used_is_listed_in_the_same_words_every_time(data, options, reason):
    results = [prepared(data, **options) for _ in range(2)]
    assert isinstance(results[0], Skipped)
    assert results[0] == results[1]
    assert results[0].reason.startswith(reason)
    assert (results[0].where, results[0].key) == ("memory://a/b.png", None)
