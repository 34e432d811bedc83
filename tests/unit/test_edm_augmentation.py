"""EDM's augmentation against closed forms: what moves where, what the network is told, and by whose random numbers."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from dpt_ray.core.diffusion.edm_augmentation import CENTRE, NUM_CONDITIONS, SYM6, Augmentation, _Draws, resample
from dpt_ray.core.row_random import RowRandom


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


def test_constant_images_stay_constant_within_their_mirror_images_and_are_black_beyond():
    images = torch.full((4, 1, 16, 16), 0.7, dtype=torch.float64)
    near = torch.eye(2, 3, dtype=torch.float64) + torch.randn(4, 2, 3, dtype=torch.float64) / 10
    torch.testing.assert_close(resample(images, near), images, rtol=0, atol=1e-9)
    # 15 pixels are mirrored on each side; a shift by 25 ends there in the sixth column, and the filter 3 further on.
    beyond = resample(images[:1], positions(1, 0, 25, 0, 1, 0))[0, 0]
    torch.testing.assert_close(beyond[:, :3], images[0, 0, :, :3], rtol=0, atol=1e-9)
    assert not beyond[:, 9:].any()


def test_positive_angles_turn_counter_clockwise_as_seen():
    x, y = grid()
    right = torch.exp(-((x - 8) ** 2 + y**2) / 18)[None, None]
    quarter = draws(rotation=torch.tensor([math.pi / 2]))
    moved = resample(right, quarter.source_positions(32, 32).double())[0, 0]
    torch.testing.assert_close(moved, torch.exp(-(x**2 + (y + 8) ** 2) / 18), rtol=0, atol=0.02)
    assert quarter.conditions()[0, 4] == 1
    longer = draws(stretch=torch.tensor([3.0]), stretch_direction=torch.tensor([math.pi / 4]))
    stretched = resample(torch.exp(-(x**2 + y**2) / 18)[None, None], longer.source_positions(32, 32).double())[0, 0]
    assert stretched[10, 21] > 2 * stretched[21, 21]  # the diagonal from bottom left to top right


def explicit_warp(image: np.ndarray, a2, a3, a4, a5, a6, a7) -> np.ndarray:
    """The augmentation of one grey image (H, W), step by step in float64, from the papers' formulas.

    Pad by the mirror image, double the resolution by the wavelet's filter, read each position of the result at its
    source, bilinearly and with zeros outside, halve the resolution again. Filters are matrices here.
    """
    taps, (height, width) = np.array(SYM6), image.shape

    def filtered(samples, pixels, first):  # entry (m, k): the tap with which pixel k stands in sample m
        place = np.arange(samples)[:, None] + first - 2 * np.arange(pixels)
        return np.where((place >= 0) & (place < 12), taps[place.clip(0, 11)], 0)

    def turn(angle):
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    canvas = np.pad(image, [(height - 1, height - 1), (width - 1, width - 1)], mode="reflect")
    rows, columns = canvas.shape
    fine = filtered(2 * rows, rows, 5) @ canvas @ filtered(2 * columns, columns, 5).T * 2
    # Table 6, in its order; the first thing done to an image stands on the right.
    stretch = turn(-a4) @ np.diag([2 ** (0.2 * a5), 2 ** (-0.2 * a5)]) @ turn(a4)
    forward = stretch @ turn(-a3) * 2 ** (0.2 * a2)
    down, right = (np.arange(2 * side + 10) / 2 - 2.5 - (side - 1) / 2 for side in (height, width))
    targets = np.stack(np.meshgrid(right, down)).reshape(2, -1) - [[width / 8 * a6], [height / 8 * a7]]
    x, y = np.linalg.solve(forward, targets)
    places = np.stack([2 * (y + (rows - 1) / 2), 2 * (x + (columns - 1) / 2)])
    moved = ndimage.map_coordinates(fine, places, order=1, mode="grid-constant", cval=0.0)
    moved = moved.reshape(2 * height + 10, 2 * width + 10)
    return filtered(2 * height + 10, height, 0).T @ moved @ filtered(2 * width + 10, width, 0) / 2


@pytest.mark.parametrize("size", [(16, 16), (8, 12)])
@pytest.mark.parametrize("seed", range(6))
def test_images_are_those_of_an_explicit_warp(size, seed):
    random = np.random.default_rng(seed)
    image = random.standard_normal(size)
    drawn = [*random.normal(size=1), *random.uniform(-np.pi, np.pi, 2), *random.normal(size=3) * (1 + seed)]
    given = torch.tensor(drawn, dtype=torch.float64)[:, None]
    a2, a3, a4, a5, a6, a7 = given
    doubles = draws(scale=a2, rotation=a3, stretch_direction=a4, stretch=a5, shift=torch.stack([a6, a7], dim=1))
    moved = resample(torch.from_numpy(image)[None, None], doubles.source_positions(size[1], size[0]))
    np.testing.assert_allclose(moved[0, 0].numpy(), explicit_warp(image, *drawn), atol=1e-10)
    if seed == 5:
        assert (moved == 0).any()  # so far that the image ends


@pytest.mark.parametrize("angle", [0.3, math.pi / 2, -2.0])
@pytest.mark.parametrize("scale", [0.9, 1.2])
def test_a_smooth_image_is_read_at_the_source_positions(angle, scale):
    x, y = grid()
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    moved = resample(bump(x, y)[None, None], positions(cosine, -sine, 0.4, sine, cosine, -0.3))[0, 0]
    # The filter's centre of mass is not at its middle tap: reading and writing are each off by so much, opposite ways.
    off = ((torch.tensor(SYM6) * torch.arange(12)).sum() / math.sqrt(2) - CENTRE).item() / 2
    x, y = x + off, y + off
    expected = bump(cosine * x - sine * y + 0.4 - off, sine * x + cosine * y - 0.3 - off)
    middle = slice(6, -6)  # near the border the mirrored image comes in
    torch.testing.assert_close(moved[middle, middle], expected[middle, middle], rtol=0, atol=0.02)


def test_each_kind_moves_positions_as_in_the_papers_table():
    """Source positions are the inverse of the table's matrices, in their order."""
    turn = torch.tensor([[math.cos(0.5), math.sin(0.5)], [-math.sin(0.5), math.cos(0.5)]])  # by -0.5
    tilt = torch.tensor([[math.cos(0.9), math.sin(0.9)], [-math.sin(0.9), math.cos(0.9)]])
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
    expected = [0.5, 0.15, 0.3, 0.3, 0.3, 0.3, 0.15, 0.3, 0.3]
    torch.testing.assert_close(shares, torch.tensor(expected), rtol=0, atol=0.04)
    assert (told[:, 7] != 0).equal(told[:, 8] != 0)
    assert told[told[:, 2] != 0, 2].std().item() == pytest.approx(1, abs=0.1)


def test_statistics_of_many_draws_are_the_official_ones():
    """Those of 200,000 draws of the official code at probability 0.12, to within what so many draws can differ by."""
    drawn = Augmentation(0.12, horizontal_flip=True)._draw(RowRandom([1], 200_000))
    stretched = drawn.stretch != 0
    along_axis = (drawn.stretch_direction[stretched] == 0).float().mean().item()
    assert along_axis == pytest.approx(0.494, abs=0.02)
    _, _, _, _, _, cosine, sine, *_ = drawn.conditions().std(0).tolist()
    assert (cosine, sine) == (pytest.approx(0.2993, abs=0.006), pytest.approx(0.1755, abs=0.006))
    others = drawn.stretch_direction[stretched & (drawn.stretch_direction != 0)]
    assert others.std().item() == pytest.approx(math.pi / math.sqrt(3), rel=0.02)  # uniform in +-pi


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
