"""Hashes of images: equal pixels give equal hashes, copies give close ones, and what shows nothing gives none."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pictures_of_scenes import as_array, as_jpeg, as_pillow, scenes
from PIL import Image

from dpt_ray.data.images.perceptual_hash import ImageHashes, is_comparable, perceptual_hashes, pixel_hashes
from dpt_ray.data.shards.duplicates import limits_for

SIZE = 48


def bits_apart(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By how many bits of the first word, and of all, the images' hashes differ."""
    difference = np.bitwise_count(perceptual_hashes(one) ^ perceptual_hashes(other)).astype(int)
    return difference[:, 0], difference.sum(axis=1)


def are_near(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    limits = limits_for(one.shape[-1])
    coarse, fine = bits_apart(one, other)
    return (coarse <= limits.coarse) & (fine <= limits.fine)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    return as_array(Image.open(io.BytesIO(as_jpeg(image, quality))))


def resized(image: np.ndarray, size: int) -> np.ndarray:
    small = as_pillow(image).resize((size, size), Image.Resampling.BICUBIC)
    return as_array(small.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: jpeg(image, 90),
        lambda image: jpeg(image, 30),
        lambda image: resized(image, 32),
        lambda image: resized(image, 100),
        lambda image: (image * 0.8 + 40).astype(np.uint8),
        lambda image: image - np.minimum(image, 12),
        lambda image: as_array(as_pillow(image).convert("L")),
    ],
    ids=["jpeg 90", "jpeg 30", "made smaller", "made larger", "less contrast", "darker", "grey"],
)
def test_a_copy_that_was_changed_a_little_is_near(change):
    originals = scenes(30, SIZE)
    copies = np.stack([change(image) for image in originals])
    assert are_near(originals, copies).all()
    assert (pixel_hashes(originals) != pixel_hashes(copies)).any(axis=1).all()


@pytest.mark.parametrize("size", [8, 16, 32, 65])
@pytest.mark.parametrize("channels", [1, 3])
def test_different_pictures_are_not_near(size, channels):
    pictures = scenes(60, size, channels=channels)
    one, other = np.triu_indices(len(pictures), 1)
    assert not are_near(pictures[one], pictures[other]).any()


def test_a_mirrored_or_inverted_picture_is_another_one():
    pictures = scenes(20, SIZE)
    assert not are_near(pictures, pictures[..., ::-1]).any()
    assert not are_near(pictures, 255 - pictures).any()


def test_what_is_too_plain_or_too_small_has_no_hash():
    shades = np.full((3, 3, 32, 32), [[[[0]]], [[[127]]], [[[255]]]], np.uint8)
    speckled = shades[1:2] + np.random.default_rng(0).integers(0, 3, (1, 3, 32, 32), dtype=np.uint8)
    for plain in (shades, speckled, scenes(4, 7)):
        hashes = perceptual_hashes(plain)
        assert not is_comparable(hashes).any()
        assert not hashes.any()
    assert is_comparable(perceptual_hashes(scenes(4, 8))).all()


def test_the_bits_are_signs_of_the_discrete_cosine_transform():
    from scipy.fft import dctn

    for size in (8, 12, 32):
        picture = scenes(1, size, channels=1)
        spectrum = np.zeros((16, 16))
        wanted = min(16, size)
        spectrum[:wanted, :wanted] = dctn(picture[0, 0].T.astype(float), norm="ortho")[:wanted, :wanted]
        signs = spectrum > 0.1
        signs[0, 0] = True
        quarters = [signs[:8, :8], signs[:8, 8:], signs[8:, :8], signs[8:, 8:]]
        expected = [sum(1 << place for place, bit in enumerate(part.ravel()) if bit) for part in quarters]
        assert perceptual_hashes(picture)[0].tolist() == expected


def test_a_hash_does_not_depend_on_the_images_beside_it():
    pictures = scenes(70, 32)
    alone = [(pixel_hashes(one[None])[0], perceptual_hashes(one[None])[0]) for one in pictures]
    together = ImageHashes(pixel_hashes(pictures), perceptual_hashes(pictures))
    assert np.array_equal(together.pixels, [pixels for pixels, _ in alone])
    assert np.array_equal(together.perceptual, [perceptual for _, perceptual in alone])


@settings(max_examples=60, deadline=None)
@given(
    image=arrays(np.uint8, st.tuples(st.sampled_from([1, 3]), st.integers(1, 9)).map(lambda s: (s[0], s[1], s[1]))),
    data=st.data(),
)
def test_any_changed_byte_changes_the_hash_of_the_pixels(image, data):
    changed = image.copy()
    for place in data.draw(st.sets(st.integers(0, image.size - 1), min_size=1, max_size=4)):
        changed.reshape(-1)[place] ^= data.draw(st.integers(1, 255))
    hashes = pixel_hashes(np.stack([image, changed, image]))
    assert np.array_equal(hashes[0], hashes[2])
    assert not np.array_equal(hashes[0], hashes[1])


def test_images_that_differ_in_the_highest_bytes_of_two_words_have_other_hashes():
    """A multilinear hash modulo 2^64 sees only eight bits there; the second one, of turned words, sees the rest."""
    images = np.zeros((65_536 // 16, 1, 4, 4), np.uint8)
    values = np.arange(len(images))
    images[:, 0, 1, 3], images[:, 0, 3, 3] = values % 256, values // 256  # bytes 7 and 15
    assert len(np.unique(pixel_hashes(images), axis=0)) == len(images)
