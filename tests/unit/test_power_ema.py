"""Power-function averages: the formulas in closed form, and averages chosen after training."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from dpt_ray.core.training.power_ema import (
    TRACKED,
    PowerEma,
    Profile,
    combination,
    exponent_of_width,
    reconstruct,
    relative_error,
    width_of_exponent,
)

END = 1000


def snapshots(number: int, widths=TRACKED) -> list[Profile]:
    """Both averages at equal distances up to the end."""
    return [Profile.of_width(width, END * (i + 1) // number) for i in range(number) for width in widths]


def value_at(step: int) -> float:
    return np.sin(step / 7) + step / 50


def tracked(width: float, every: int) -> dict[int, dict[str, torch.Tensor]]:
    """Train a network of one weight that has a known value after each step; return snapshots by images seen."""
    model = nn.Linear(1, 1, bias=False).double()
    average = PowerEma(model, width)
    kept = {}
    for step in range(1, END + 1):
        nn.init.constant_(model.weight, value_at(step))
        average.update(model, step - 1, step)
        if step % every == 0:
            kept[step] = {name: value.clone() for name, value in average.model.state_dict().items()}
    return kept


def expected(profile: Profile) -> float:
    """The average by definition: each step's weight times its share under the profile."""
    shares = np.diff((np.arange(profile.images + 1) / profile.images) ** (profile.exponent + 1))
    return sum(share * value_at(step) for step, share in enumerate(shares, start=1))


def test_widths_of_the_paper():
    assert exponent_of_width(0.05) == pytest.approx(16.97, abs=0.005)
    assert exponent_of_width(0.10) == pytest.approx(6.94, abs=0.005)
    for exponent in (0.1, 1.0, 6.94, 300.0):
        assert exponent_of_width(width_of_exponent(exponent)) == pytest.approx(exponent, rel=1e-8)
    for impossible in (0, -0.1, 0.29):
        with pytest.raises(ValueError, match=r"sigma_rel must be above 0 and below 0\.2887"):
            exponent_of_width(impossible)


def test_width_is_the_deviation_of_the_profile():
    exponent, places = exponent_of_width(0.10), (np.arange(100_000) + 0.5) / 100_000
    density = (exponent + 1) * places**exponent / 100_000
    mean = (density * places).sum()
    assert density.sum() == pytest.approx(1)
    assert ((density * (places - mean) ** 2).sum()) ** 0.5 == pytest.approx(0.10, rel=1e-6)


@pytest.mark.parametrize(("one", "other"), [((3.0, 40), (7.5, 100)), ((7.5, 100), (3.0, 40)), ((2.0, 50), (2.0, 50))])
def test_product_is_the_integral(one, other):
    first, second = Profile(*one), Profile(*other)
    end = min(first.images, second.images)
    places = (np.arange(200_000) + 0.5) * end / 200_000

    def density(profile):
        return (profile.exponent + 1) * places**profile.exponent / profile.images ** (profile.exponent + 1)

    integral = (density(first) * density(second)).sum() * end / 200_000
    assert first.product(second) == pytest.approx(integral, rel=1e-6)


@pytest.mark.parametrize("width", TRACKED)
def test_average_has_the_profile_exactly(width):
    for images, kept in tracked(width, every=250).items():
        assert kept["weight"].item() == pytest.approx(expected(Profile.of_width(width, images)), rel=1e-10)


def test_steps_of_other_sizes_are_weighed_by_their_images():
    model = nn.Linear(1, 1, bias=False).double()
    average, exponent = PowerEma(model, 0.2), exponent_of_width(0.2)
    for before, after, value in [(0, 10, 1.0), (10, 40, 5.0), (40, 50, -2.0)]:
        nn.init.constant_(model.weight, value)
        average.update(model, before, after)
    shares = np.diff((np.array([0, 10, 40, 50]) / 50) ** (exponent + 1))
    assert average.model.weight.item() == pytest.approx((shares * [1.0, 5.0, -2.0]).sum())


def test_initial_weights_leave_no_trace_and_counters_are_copied():
    model = nn.BatchNorm1d(2)
    average = PowerEma(model, 0.1)
    model(torch.randn(8, 2))
    average.update(model, 0, 8)
    for name, value in model.state_dict().items():
        assert torch.equal(average.model.state_dict()[name], value)


def test_a_tracked_average_comes_back_alone():
    profiles = snapshots(4)
    for place, profile in enumerate(profiles):
        coefficients = combination(profiles, profile)
        assert coefficients == pytest.approx([float(i == place) for i in range(len(profiles))], abs=1e-6)
        assert relative_error(profiles, profile) < 1e-6


@pytest.mark.parametrize("width", [0.03, 0.075, 0.15])
def test_other_widths_are_met_the_better_the_more_snapshots(width):
    errors = [relative_error(snapshots(number), Profile.of_width(width, END)) for number in (2, 4, 8, 16, 32)]
    assert all(later < earlier for earlier, later in pairwise(errors))
    assert errors[-1] < 0.02


@pytest.mark.parametrize("width", [0.06, 0.075, 0.09, 0.12])
def test_eight_snapshots_meet_widths_as_the_settings_say(width):
    assert relative_error(snapshots(8), Profile.of_width(width, END)) < 0.013


def test_averages_between_two_snapshots_are_met_too():
    wanted = Profile.of_width(0.10, 850)
    assert relative_error(snapshots(10), wanted) > relative_error(snapshots(40), wanted)


def test_reconstructed_weights_are_those_of_an_average_kept_all_the_time():
    kept = {width: tracked(width, every=50) for width in TRACKED}
    profiles = [Profile.of_width(width, images) for images in kept[TRACKED[0]] for width in TRACKED]
    loaded = [kept[width][images] for images in kept[TRACKED[0]] for width in TRACKED]
    for width in (0.06, 0.075, 0.12):
        wanted = Profile.of_width(width, END)
        weight = reconstruct(profiles, loaded.__getitem__, wanted)["weight"]
        assert weight.dtype == torch.float64
        assert weight.item() == pytest.approx(expected(wanted), abs=0.02)
        assert abs(weight.item() - loaded[-1]["weight"].item()) > 0.05  # which is of another width


def test_no_snapshots_give_no_average():
    with pytest.raises(ValueError, match="there are none"):
        combination([], Profile(3.0, 10))
