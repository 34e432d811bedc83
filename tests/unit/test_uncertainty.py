"""Intervals of accuracies and the comparison of two classifiers, against their formulas and by simulation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.core.metrics.uncertainty import compare_paired, wilson_interval

Z = 1.959963984540054


@given(st.integers(1, 5000), st.data())
def test_an_interval_is_wilsons(images, data):
    right = data.draw(st.integers(0, images))
    share = right / images
    middle = (share + Z**2 / (2 * images)) / (1 + Z**2 / images)
    half = Z / (1 + Z**2 / images) * math.sqrt(share * (1 - share) / images + Z**2 / (4 * images**2))
    found = wilson_interval(right, images)
    assert found.low == pytest.approx(max(0, middle - half), abs=1e-9)
    assert found.high == pytest.approx(min(1, middle + half), abs=1e-9)


def pair(both: int, mended: int, broken: int, neither: int):
    first = torch.tensor([0] * both + [1] * mended + [0] * broken + [1] * neither)
    second = torch.tensor([0] * both + [0] * mended + [1] * broken + [1] * neither)
    return compare_paired(torch.zeros_like(first), first, second)


@pytest.mark.parametrize(("mended", "broken"), [(0, 0), (1, 0), (5, 5), (9, 1), (30, 14), (2, 40)])
def test_the_p_value_is_the_sum_of_binomial_tails(mended, broken):
    found = pair(50, mended, broken, 10)
    flips = mended + broken
    tail = sum(math.comb(flips, count) for count in range(min(mended, broken) + 1)) / 2**flips
    assert found.p_value == pytest.approx(min(1.0, 2 * tail) if flips else 1.0)
    assert (found.mended, found.broken, found.images) == (mended, broken, 60 + flips)
    assert found.gain == pytest.approx((mended - broken) / (60 + flips))
    assert found.interval.low <= found.gain <= found.interval.high


def test_equal_classifiers_are_told_apart_rarely_and_others_mostly():
    """Over 400 draws of 300 images: at most the level's share of wrong verdicts, and intervals that hold the truth."""
    generator = np.random.default_rng(0)

    def draw(up: float, down: float):
        return pair(*generator.multinomial(300, [0.7, up, down, 0.3 - up - down]).tolist())

    equal, better = [draw(0.08, 0.08) for _ in range(400)], [draw(0.16, 0.06) for _ in range(400)]
    assert sum(change.is_distinguishable for change in equal) <= 0.05 * 400
    assert sum(change.is_distinguishable for change in better) > 0.8 * 400
    for truth, changes in ((0.0, equal), (0.1, better)):
        held = sum(change.interval.low <= truth <= change.interval.high for change in changes)
        assert held >= 0.92 * 400


def test_vectors_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="one length"):
        compare_paired(torch.zeros(2), torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="at least one image"):
        compare_paired(torch.zeros(0), torch.zeros(0), torch.zeros(0))
