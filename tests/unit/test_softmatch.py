"""SoftMatch's weights and statistics in closed form."""

import math

import pytest
import torch

from dpt_ray.core.semi_supervised.algorithm import Task, Views
from dpt_ray.core.semi_supervised.algorithms.softmatch import SoftMatch


def make_softmatch(**settings) -> SoftMatch:
    return SoftMatch(SoftMatch.Settings(**settings), Task(2, num_unlabelled=10, total_steps=10))


def test_statistics_start_at_the_uniform_prediction_and_follow_mean_and_unbiased_variance():
    algorithm = make_softmatch(statistics_momentum=0.9)
    assert (algorithm.mu.item(), algorithm.variance.item()) == (0.5, 1.0)
    confidence = torch.tensor([0.6, 0.7, 0.95])
    algorithm.update(confidence)
    assert algorithm.mu.item() == pytest.approx(0.9 * 0.5 + 0.1 * 0.75)
    assert algorithm.variance.item() == pytest.approx(0.9 + 0.1 * confidence.var(unbiased=True).item())


def test_the_variance_of_confident_rows_is_not_lost_in_rounding():
    algorithm = make_softmatch(statistics_momentum=0.0)
    confidence = 1 - 1e-5 * torch.tensor([0.0, 1.0, 2.0, 3.0])
    algorithm.update(confidence)
    assert algorithm.variance.item() == pytest.approx(confidence.double().var().item(), rel=1e-3)


@pytest.mark.parametrize("sigmas", [1.0, 2.0])
def test_weights_are_one_above_the_mean_and_gaussian_below(sigmas):
    algorithm = make_softmatch(sigmas=sigmas)
    algorithm.mu.fill_(0.8)
    algorithm.variance.fill_(0.04)
    weights = algorithm.weigh(torch.tensor([0.95, 0.8, 0.7, 0.6]))
    expected = [1, 1] + [math.exp(-((0.8 - c) ** 2) * sigmas**2 / (2 * 0.04)) for c in (0.7, 0.6)]
    assert weights.tolist() == pytest.approx(expected, rel=1e-5)


def test_weights_come_from_aligned_predictions_and_targets_from_plain_ones():
    algorithm = make_softmatch(statistics_momentum=0.0)
    q = torch.tensor([[0.9, 0.1], [0.6, 0.4]])
    targets = algorithm.compute_targets(Views(q, q, torch.arange(2)))
    # The mean is (0.75, 0.25); divided by it and scaled the rows are (3/4, 1/4) and (1/3, 2/3).
    assert algorithm.mu.item() == pytest.approx((3 / 4 + 2 / 3) / 2, rel=1e-4)
    assert targets.target.tolist() == [0, 0]
    plain = make_softmatch(statistics_momentum=0.0, uniform_alignment=False)
    plain.compute_targets(Views(q, q, torch.arange(2)))
    assert plain.mu.item() == pytest.approx(0.75)


def test_all_statistics_are_in_the_checkpoint():
    assert set(make_softmatch().state_dict()) == {"mu", "variance", "distribution.value"}
