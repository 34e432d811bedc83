"""EDM's augmentation against closed forms: what moves where, what the network is told, and by whose random numbers."""

import math

import pytest
import torch

from dpt_ray.core.diffusion.augmentation import NUM_CONDITIONS, SYM6, Augmentation, _Draws, resample
from dpt_ray.core.random import RowRandom


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def positions(*entries, rows=1):
    return torch.tensor(entries, dtype=torch.float64).view(1, 2, 3).repeat(rows, 1, 1)


def bump(x, y):
    """A smooth image as a function of position."""
    return torch.exp(-((x - 3) ** 2 + (y + 5) ** 2) / 18)


def grid(size=32):
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return axis[None, :], axis[:, None]


def draws(rows=1, **given):
    zeros = torch.zeros(rows)
    names = ["flip_x", "flip_y", "scale", "rotation", "stretch_direction", "stretch"]
    return _Draws(**dict.fromkeys(names, zeros) | {"shift": torch.zeros(rows, 2)} | given)


def test_filter_is_orthonormal_with_six_vanishing_moments():
    """That, and being nearly symmetric, is what defines the wavelet."""
    taps = torch.tensor(SYM6, dtype=torch.float64)
    place = torch.arange(12)
    assert taps.sum().item() == pytest.approx(math.sqrt(2), abs=1e-11)
    for shift in range(6):
        product = (taps[: 12 - 2 * shift] * taps[2 * shift :]).sum().item()
        assert product == pytest.approx(float(shift == 0), abs=1e-11)
    for power in range(6):
        assert ((-1.0) ** place * taps * (place - 5.0) ** power).sum().item() == pytest.approx(0, abs=1e-9)


def test_nothing_moves_nothing_and_whole_pixels_are_exact():
    images = torch.rand(2, 3, 8, 10, dtype=torch.float64)
    torch.testing.assert_close(resample(images, positions(1, 0, 0, 0, 1, 0, rows=2)), images, rtol=0, atol=1e-10)
    moved = resample(images, positions(1, 0, 2, 0, 1, -1, rows=2))
    torch.testing.assert_close(moved[:, :, 1:, :-2], images[:, :, :-1, 2:], rtol=0, atol=1e-10)
    torch.testing.assert_close(moved[:, :, 1:, -2:], images[:, :, :-1, [-2, -3]], rtol=0, atol=1e-10)  # mirrored


def test_constant_images_stay_constant():
    images = torch.full((4, 1, 8, 8), 0.7, dtype=torch.float64)
    anywhere = torch.randn(4, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(resample(images, anywhere), images, rtol=0, atol=1e-9)


@pytest.mark.parametrize("angle", [0.3, math.pi / 2, -2.0])
@pytest.mark.parametrize("scale", [0.9, 1.2])
def test_a_smooth_image_is_read_at_the_source_positions(angle, scale):
    x, y = grid()
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    moved = resample(bump(x, y)[None, None], positions(cosine, -sine, 0.4, sine, cosine, -0.3))[0, 0]
    expected = bump(cosine * x - sine * y + 0.4, sine * x + cosine * y - 0.3)
    middle = slice(6, -6)  # near the border the mirrored image comes in
    torch.testing.assert_close(moved[middle, middle], expected[middle, middle], rtol=0, atol=0.02)


def test_each_kind_moves_positions_as_in_the_papers_table():
    """Source positions are the inverse of the table's matrices, in their order."""
    turn = torch.tensor([[math.cos(0.5), -math.sin(0.5)], [math.sin(0.5), math.cos(0.5)]])
    tilt = torch.tensor([[math.cos(0.9), -math.sin(0.9)], [math.sin(0.9), math.cos(0.9)]])
    stretch = tilt @ torch.diag(torch.tensor([2**-0.14, 2**0.14])) @ tilt.T
    alone = {
        "scale": (draws(scale=torch.tensor([1.5])), torch.eye(2) * 2**0.3),
        "rotation": (draws(rotation=torch.tensor([0.5])), turn),
        "stretch": (draws(stretch=torch.tensor([-0.7]), stretch_direction=torch.tensor([0.9])), stretch),
    }
    for drawn, matrix in alone.values():
        torch.testing.assert_close(drawn.source_positions(32, 16)[0, :, :2], matrix.inverse())
    together = draws(
        scale=torch.tensor([1.5]),
        rotation=torch.tensor([0.5]),
        stretch=torch.tensor([-0.7]),
        stretch_direction=torch.tensor([0.9]),
        shift=torch.tensor([[1.0, -2.0]]),
    )
    source = together.source_positions(32, 16)[0]
    start = torch.tensor([3.0, 4.0])
    end = stretch @ turn @ (start * 2**0.3) + torch.tensor([32 / 8, -2 * 16 / 8])
    torch.testing.assert_close(source[:, :2] @ end + source[:, 2], start)


def test_conditions_are_the_papers():
    drawn = draws(
        flip_x=torch.tensor([1.0]),
        scale=torch.tensor([1.5]),
        rotation=torch.tensor([0.5]),
        stretch=torch.tensor([-0.7]),
        stretch_direction=torch.tensor([0.9]),
        shift=torch.tensor([[1.0, -2.0]]),
    )
    expected = [1, 0, 1.5, math.cos(0.5) - 1, math.sin(0.5), -0.7 * math.cos(0.9), -0.7 * math.sin(0.9), 1, -2]
    torch.testing.assert_close(drawn.conditions(), torch.tensor([expected]))
    assert torch.equal(draws(rows=3).conditions(), torch.zeros(3, NUM_CONDITIONS))


def test_shares_of_images_that_each_kind_changes():
    rows = 4000
    _, told = Augmentation(0.3, horizontal_flip=True)(torch.zeros(rows, 1, 4, 4), RowRandom([1], rows))
    shares = (told != 0).float().mean(0)
    expected = [0.5, 0.15, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]
    torch.testing.assert_close(shares, torch.tensor(expected), rtol=0, atol=0.04)
    assert (told[:, 7] != 0).equal(told[:, 8] != 0)
    assert told[told[:, 2] != 0, 2].std().item() == pytest.approx(1, abs=0.1)


def test_without_probability_images_are_only_mirrored_to_the_bit():
    images = torch.rand(64, 3, 4, 4)
    augmented, told = Augmentation(0.0, horizontal_flip=True)(images, RowRandom([1], 64))
    mirrored = told[:, 0] > 0
    assert 10 < mirrored.sum() < 54
    assert torch.equal(augmented[mirrored], images[mirrored].flip(3))
    assert torch.equal(augmented[~mirrored], images[~mirrored])
    assert not told[:, 1:].any()
    same, told = Augmentation(0.0, horizontal_flip=False)(images, RowRandom([1], 64))
    assert torch.equal(same, images)
    assert not told.any()


def test_a_row_does_not_depend_on_its_batch():
    images, seeds = torch.rand(6, 3, 8, 8), list(range(6))
    augmentation = Augmentation(0.6, horizontal_flip=True)
    whole, told = augmentation(images, RowRandom(seeds))
    assert not torch.equal(whole, images)
    for row in range(6):
        alone, told_alone = augmentation(images[row : row + 1], RowRandom(seeds[row : row + 1]))
        torch.testing.assert_close(alone[0], whole[row])
        assert torch.equal(told_alone[0], told[row])
