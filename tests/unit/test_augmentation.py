"""Augmentation: every operation against Pillow, and independence of the rows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from dpt_ray.core.pixels import normalise
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.semi_supervised.geometric_ops import crop_and_flip, cut_out
from dpt_ray.core.semi_supervised.weak_strong_augmentation import OPERATIONS, PAPER_RANGES, Strong, Weak

PILLOW = {
    "autocontrast": lambda image, v: ImageOps.autocontrast(image),
    "brightness": lambda image, v: ImageEnhance.Brightness(image).enhance(v),
    "color": lambda image, v: ImageEnhance.Color(image).enhance(v),
    "contrast": lambda image, v: ImageEnhance.Contrast(image).enhance(v),
    "equalize": lambda image, v: ImageOps.equalize(image),
    "identity": lambda image, v: image,
    "posterize": lambda image, v: ImageOps.posterize(image, int(v)),
    "rotate": lambda image, v: image.rotate(v),
    "sharpness": lambda image, v: ImageEnhance.Sharpness(image).enhance(v),
    "shear_x": lambda image, v: image.transform(image.size, Image.Transform.AFFINE, (1, v, 0, 0, 1, 0)),
    "shear_y": lambda image, v: image.transform(image.size, Image.Transform.AFFINE, (1, 0, 0, v, 1, 0)),
    "solarize": lambda image, v: ImageOps.solarize(image, v),
    "translate_x": lambda image, v: image.transform(
        image.size, Image.Transform.AFFINE, (1, 0, v * image.size[0], 0, 1, 0)
    ),
    "translate_y": lambda image, v: image.transform(
        image.size, Image.Transform.AFFINE, (1, 0, 0, 0, 1, v * image.size[1])
    ),
}
GREY_LEVELS_OFF = {"brightness": 1, "color": 1, "contrast": 1, "sharpness": 1}


def make_images(count: int, channels: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Noise, narrow-range noise, gradients and constant images: what trips table operations."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, channels, height, width), generator=generator)
    images[1::4] = 90 + images[1::4] // 8
    ramp = torch.arange(width) * 255 // (width - 1)
    images[2::4] = (images[2::4] // 16 + ramp).clamp(max=255)
    images[3:4] = 77
    return images.to(torch.uint8)


def to_pillow(image: torch.Tensor) -> Image.Image:
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else np.ascontiguousarray(array))


def from_pillow(image: Image.Image) -> torch.Tensor:
    array = np.array(image)
    return torch.from_numpy(array if array.ndim == 3 else array[:, :, None]).permute(2, 0, 1)


def make_random(count: int, seed: int = 0) -> RowRandom:
    return RowRandom(range(seed, seed + count))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (1, 28, 28), (3, 17, 24)], ids=str)
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_operation_equals_pillow(name, shape):
    images = make_images(40, *shape)
    low, high = PAPER_RANGES[name]
    magnitude = low + (high - low) * torch.rand(len(images), generator=torch.Generator().manual_seed(1))
    result = OPERATIONS[name](images, magnitude)
    expected = torch.stack(
        [from_pillow(PILLOW[name](to_pillow(i), v)) for i, v in zip(images, magnitude.tolist(), strict=True)]
    )
    assert result.dtype == torch.uint8
    assert (result.int() - expected.int()).abs().max() <= GREY_LEVELS_OFF.get(name, 0)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@settings(max_examples=25)
@given(
    place=st.floats(0, 1),
    height=st.integers(3, 40),
    width=st.integers(3, 40),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**32),
)
def test_operation_equals_pillow_at_any_size_and_over_the_whole_range(name, place, height, width, channels, seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(256, (1, channels, height, width), generator=generator).to(torch.uint8)
    low, high = PAPER_RANGES[name]
    magnitude = torch.tensor([low + (high - low) * place])  # float32, as views draw it
    result = OPERATIONS[name](image, magnitude)
    expected = from_pillow(PILLOW[name](to_pillow(image[0]), magnitude.item()))
    assert (result[0].int() - expected.int()).abs().max() <= GREY_LEVELS_OFF.get(name, 0)


@given(
    share=st.floats(0, 1),
    x=st.floats(0, 1, exclude_max=True),
    y=st.floats(0, 1, exclude_max=True),
    height=st.integers(3, 40),
    width=st.integers(3, 40),
)
def test_cut_out_paints_pillows_rectangle(share, x, y, height, width):
    side, x, y = (torch.tensor([value]) for value in (share * width, x * width, y * height))
    fill = (125, 123, 114)
    image = Image.new("RGB", (width, height))
    left, top = (int(max(0.0, (center - side / 2).item())) for center in (x, y))  # whole pixels, as published
    corner = (min(width, left + side.item()), min(height, top + side.item()))
    ImageDraw.Draw(image).rectangle((left, top, *corner), fill)
    blank = torch.zeros(1, 3, height, width, dtype=torch.uint8)
    result = cut_out(blank, side, x, y, torch.tensor(fill, dtype=torch.uint8))
    assert torch.equal(result[0], from_pillow(image))


def test_the_fourteen_operations_of_the_paper():
    assert len(OPERATIONS) == 14
    assert set(PAPER_RANGES) == set(OPERATIONS)


@pytest.mark.parametrize("padding", [0, 1, 4, 7])
def test_crop_equals_numpy_reflection_padding(padding):
    images = make_images(8, 3, 8, 11)
    shift = torch.arange(8) % (2 * padding + 1) - padding
    flip = torch.arange(8) % 2 == 0
    result = crop_and_flip(images, shift, -shift, flip)
    for i, image in enumerate(images.numpy()):
        image = image[:, :, ::-1] if flip[i] else image
        padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)), mode="reflect")
        left, top = padding + int(shift[i]), padding - int(shift[i])
        np.testing.assert_array_equal(result[i].numpy(), padded[:, top : top + 8, left : left + 11])


def test_weak_without_flip_and_padding_changes_nothing():
    images = make_images(6, 1, 8, 8)
    assert torch.equal(Weak(flip=False, crop_padding=0)(images, make_random(6)), images)


def test_weak_flips_half_of_the_rows():
    images = make_images(1, 3, 8, 8).expand(2000, -1, -1, -1)
    views = Weak(flip=True, crop_padding=0)(images, make_random(2000))
    flipped = (views == images.flip(3)).flatten(1).all(1)
    assert (views == images).flatten(1).all(1).logical_or(flipped).all()
    assert abs(flipped.float().mean() - 0.5) < 0.05


def test_padding_as_large_as_the_image_is_refused():
    with pytest.raises(ValueError, match="crop_padding"):
        Weak(crop_padding=8)(make_images(4, 1, 8, 8), make_random(4))


def test_cut_out_paints_a_clipped_square_with_its_ends():
    images = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    side, x, y = torch.tensor([[2.0, 4.0, 0.0], [4.0, 0.5, 6.0], [3.0, 7.5, 6.0]])
    result = cut_out(images, side, x, y, torch.tensor([9], dtype=torch.uint8))[:, 0]
    expected = torch.zeros(3, 8, 8, dtype=torch.uint8)
    expected[0, 2:5, 3:6] = 9
    expected[1, 5:8, 0:5] = 9
    expected[2, 6, 6] = 9
    assert torch.equal(result, expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("num_operations", [0, 3])
def test_a_row_does_not_depend_on_its_batch(channels, num_operations):
    images = make_images(48, channels, 16, 16)
    strong = Strong(Weak(flip=True, crop_padding=2), num_operations=num_operations)
    before = images.clone()
    whole = strong(images, make_random(48))
    parts = [strong(images[i : i + n], make_random(n, seed=i)) for i, n in ((0, 1), (1, 30), (31, 17))]
    assert torch.equal(whole, torch.cat(parts))
    assert torch.equal(images, before)
    assert not torch.equal(whole, strong(images, make_random(48, seed=1000)))


@pytest.mark.parametrize("channels", [1, 3])
def test_operations_are_the_same_by_groups_of_rows_and_chosen_from_all_rows(channels):
    images, strong = make_images(96, channels, 16, 20), Strong(Weak())
    random = make_random(96)
    drawn = (strong._draw_operations(96, random), random.uniform(strong.num_operations))
    assert torch.equal(strong._to_all(images, *drawn), strong._in_groups(images, *drawn))


def test_strong_applies_each_named_operation_equally_often():
    images = torch.full((4000, 1, 8, 8), 100, dtype=torch.uint8)
    strong = Strong(
        Weak(flip=False, crop_padding=0),
        num_operations=1,
        cutout=0,
        ranges={"solarize": (0, 0), "identity": (0, 0), "brightness": (0.5, 0.5), "posterize": (1, 1)},
    )
    values, counts = strong(images, make_random(4000))[:, 0, 0, 0].unique(return_counts=True)
    assert values.tolist() == [0, 50, 100, 155]
    assert (counts - 1000).abs().max() < 120


def test_strong_refuses_what_it_cannot_do():
    weak = Weak(flip=False, crop_padding=0)
    with pytest.raises(ValueError, match="wobble"):
        Strong(weak, ranges={"wobble": (0, 1)})
    with pytest.raises(ValueError, match="names no operation"):
        Strong(weak, ranges={})
    with pytest.raises(ValueError, match="cutout_fill"):
        Strong(weak, cutout_fill=(1, 2, 3))(make_images(4, 1, 8, 8), make_random(4))


def test_normalise_gives_the_usual_formula():
    images = make_images(4, 3, 8, 8)
    mean, std = (0.5, 0.4, 0.3), (0.25, 0.2, 0.1)
    expected = (images / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(normalise(images, mean, std), expected)
    with pytest.raises(ValueError, match="one per channel"):
        normalise(images, (0.5,), (0.2,))
