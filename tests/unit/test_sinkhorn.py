"""Balanced assignment against exact solutions."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from dpt_ray.core.balanced_assignment import balanced_classes, class_log_scales, dual_sums, streamed_log_scales

EQUAL = torch.ones(3)


def probabilities(rows: int, classes: int = 3, seed: int = 0, bias: float = 0.0) -> torch.Tensor:
    logits = torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))
    logits[:, 0] += bias
    return logits.softmax(1)


def assign(p: torch.Tensor, shares: torch.Tensor = EQUAL, sharpness: float = 10.0) -> torch.Tensor:
    scales = class_log_scales(p, shares, sharpness=sharpness)
    assert scales.converged
    return balanced_classes(p, scales.log, torch.arange(len(p)), sharpness=sharpness)


@pytest.mark.parametrize("shares", [[1, 1, 1], [0.5, 0.3, 0.2]])
def test_the_plan_has_the_wanted_columns_and_equal_rows(shares):
    p, shares = probabilities(400, bias=2.0), torch.tensor(shares, dtype=torch.float64)
    scales = class_log_scales(p, shares, sharpness=2.0, tolerance=1e-6)
    plan = (2.0 * p.double().log() + scales.log).softmax(1) / len(p)  # scaled so that every row is 1 / N
    torch.testing.assert_close(plan.sum(0), shares / shares.sum(), rtol=1e-5, atol=0)


def test_sharp_assignment_is_the_optimal_one():
    p = probabilities(30, bias=1.5)
    costs = -np.repeat(p.double().log().numpy(), 10, axis=1)  # ten places in each class
    _, places = linear_sum_assignment(costs)
    ours = class_log_scales(p, EQUAL, sharpness=200.0, tolerance=1e-9, max_iterations=20_000)
    assert balanced_classes(p, ours.log, torch.arange(30), sharpness=200.0).tolist() == (places // 10).tolist()


def test_a_class_that_is_never_the_most_probable_gets_images():
    p = probabilities(3000, bias=-8.0)
    assert (p.argmax(1) == 0).sum() < 10
    counts = assign(p).bincount(minlength=3)
    assert (counts - 1000).abs().max() < 60


def test_images_in_balance_keep_their_most_probable_class():
    p = torch.tensor([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    assert assign(p).tolist() == [0, 1, 2]


def test_the_scales_do_not_depend_on_the_order_of_images():
    p = probabilities(200, bias=1.0)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        class_log_scales(p, EQUAL, sharpness=10.0).log, class_log_scales(p[order], EQUAL, sharpness=10.0).log
    )


def test_scales_of_a_sample_serve_all_images():
    p = probabilities(20_000, bias=2.0)
    scales = class_log_scales(p[::10], EQUAL, sharpness=10.0)
    counts = balanced_classes(p, scales.log, torch.arange(len(p)), sharpness=10.0).bincount(minlength=3)
    assert (counts / len(p) - 1 / 3).abs().max() < 0.03


def test_zeros_of_half_precision_are_no_infinite_cost():
    p = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert class_log_scales(p, torch.ones(2), sharpness=10.0).log.isfinite().all()


def test_images_that_say_nothing_take_turns():
    turns = torch.randint(2**62, (9000,), generator=torch.Generator().manual_seed(0))
    p = torch.full((9000, 3), 1 / 3)
    scales = class_log_scales(p, EQUAL, sharpness=10.0)
    counts = balanced_classes(p, scales.log, turns, sharpness=10.0).bincount(minlength=3)
    assert (counts - 3000).abs().max() < 4 * (9000 * 2 / 9) ** 0.5  # four standard deviations


def test_turns_choose_among_tied_classes_only():
    p = torch.tensor([[0.1, 0.45, 0.45]] * 4 + [[0.1, 0.5, 0.4]] * 2)
    labels = balanced_classes(p, torch.zeros(3), torch.arange(6), sharpness=10.0)
    assert labels.tolist() == [1, 2, 1, 2, 1, 1]


def test_the_error_that_is_told_is_that_of_the_plan():
    p, shares = probabilities(400, bias=4.0), torch.tensor([0.8, 0.1, 0.1], dtype=torch.float64)
    for iterations in (1, 2, 3):
        scales = class_log_scales(p, shares, sharpness=10.0, tolerance=0, max_iterations=iterations)
        columns = (10.0 * p.double().log() + scales.log).softmax(1).mean(0)
        assert not scales.converged
        assert (columns.log() - shares.log()).abs().max().item() == pytest.approx(scales.error, rel=1e-6)


@pytest.mark.parametrize("sharpness", [1.0, 10.0, 50.0])
def test_probabilities_near_0_and_1_take_few_turns(sharpness):
    logits = 8 * torch.randn(2000, 10, generator=torch.Generator().manual_seed(0)) + torch.linspace(-6, 6, 10)
    p = logits.softmax(1).half().float()  # as sidecars hold them
    assert class_log_scales(p, torch.ones(10), sharpness=sharpness, max_iterations=30).converged


def test_classes_that_share_no_image_are_no_failure():
    p = torch.eye(4).repeat(25, 1)
    scales = class_log_scales(p, torch.ones(4), sharpness=10.0)
    assert scales.converged
    assert balanced_classes(p, scales.log, torch.arange(100), sharpness=10.0).tolist() == [0, 1, 2, 3] * 25


@pytest.mark.parametrize("sharpness", [1.0, 10.0])
def test_streamed_scales_are_those_of_newton_s_steps(sharpness):
    p = probabilities(3000, classes=12, bias=2.0)
    shares = torch.linspace(1, 3, 12)
    wanted = class_log_scales(p, shares, sharpness=sharpness, tolerance=1e-9)
    parts = p.split(700)
    passes = 0

    def sums(scales):
        nonlocal passes
        passes += 1
        found = [dual_sums(part, scales, sharpness=sharpness) for part in parts]
        return sum(found[1:], found[0])

    found = streamed_log_scales(sums, shares, tolerance=1e-6)
    assert found.converged
    assert passes < 80
    torch.testing.assert_close(found.log - found.log.mean(), wanted.log - wanted.log.mean(), rtol=0, atol=1e-5)


def test_streaming_ends_after_so_many_passes_and_says_how_far_it_came():
    p = probabilities(300, bias=3.0)
    found = streamed_log_scales(lambda s: dual_sums(p, s, sharpness=10.0), EQUAL, tolerance=0, max_passes=7)
    assert not found.converged
    assert 0 < found.error < 1
