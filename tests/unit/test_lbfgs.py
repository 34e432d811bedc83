"""L-BFGS on functions whose minimum is known."""

from itertools import islice, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.core.lbfgs import MAX_STALLED, Point, lbfgs


class Counted:
    """A function with its gradient, as `lbfgs` wants it; counts evaluations."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, at):
        self.calls += 1
        tracked = at.clone().requires_grad_()
        value = self.function(tracked)
        (gradient,) = torch.autograd.grad(value, tracked)
        return value.item(), gradient

    def start(self, at):
        return Point(at, *self(at))


def quadratic(seed: int, size: int):
    random = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(size, size, generator=random, dtype=torch.float64))
    curvatures = torch.logspace(0, 2, size, dtype=torch.float64)
    lowest = torch.randn(size, generator=random, dtype=torch.float64)
    return lambda x: 0.5 * (curvatures * (basis @ (x - lowest)).square()).sum(), lowest


@given(st.integers(0, 1000), st.integers(1, 12))
def test_a_quadratic_is_solved_and_every_point_is_lower(seed, size):
    function, lowest = quadratic(seed, size)
    counted = Counted(function)
    points = list(islice(lbfgs(counted, counted.start(torch.zeros_like(lowest)), first_step=1.0, history=20), 100))
    for before, after in pairwise(points):
        assert after.value <= before.value * (1 + 1e-5)
    torch.testing.assert_close(points[-1].at, lowest, atol=1e-5, rtol=0)


def test_most_steps_take_one_evaluation():
    counted = Counted(lambda x: torch.logsumexp(x * torch.arange(1, 9), 0) + 0.05 * x.square().sum())
    points = list(islice(lbfgs(counted, counted.start(torch.ones(8).double()), first_step=0.1, history=20), 25))
    assert counted.calls <= 1.25 * len(points)
    assert points[-1].gradient.abs().max() < 1e-5


@pytest.mark.parametrize("first_step", [1e-6, 1e6])
def test_a_first_step_of_the_wrong_length_is_mended(first_step):
    counted = Counted(lambda x: torch.log(torch.cosh(x.clamp(-300, 300))).sum() + 0.01 * x.square().sum())
    start = counted.start(torch.full((5,), 2.0, dtype=torch.float64))
    *_, last = islice(lbfgs(counted, start, first_step=first_step, history=20), 60)
    torch.testing.assert_close(last.at, torch.zeros(5, dtype=torch.float64), atol=1e-6, rtol=0)


def test_it_ends_at_the_minimum_and_where_nothing_goes_down():
    counted = Counted(lambda x: x.square().sum())
    assert list(lbfgs(counted, counted.start(torch.zeros(3)), first_step=1.0, history=5)) == []

    def rising(at):  # a gradient that is wrong: no step along it goes down
        return at.abs().sum().item() + 1, -torch.ones(3)

    points = lbfgs(rising, Point(torch.zeros(3), 1.0, -torch.ones(3)), first_step=1.0, history=5)
    assert len(list(islice(points, 100))) <= MAX_STALLED
