"""AdaMatch's alignment and relative threshold on hand-made batches."""

import pytest
import torch

from dpt_ray.core.semi_supervised.algorithm import Task, Views
from dpt_ray.core.semi_supervised.algorithms.adamatch import AdaMatch
from dpt_ray.core.semi_supervised.alignment import RunningDistribution, align


def make_adamatch(**settings) -> AdaMatch:
    return AdaMatch(AdaMatch.Settings(**settings), Task(2, num_unlabelled=10, total_steps=10))


def test_aligned_rows_have_the_wanted_mean_when_they_are_equal():
    q = torch.tensor([[0.8, 0.2], [0.8, 0.2]])
    torch.testing.assert_close(
        align(q, q.mean(0), torch.tensor([0.5, 0.5])), torch.full((2, 2), 0.5), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(align(q, q.mean(0), q.mean(0)), q)


def test_a_running_distribution_begins_with_its_first_batch_or_uniform():
    q = torch.tensor([[0.8, 0.2], [0.6, 0.4]])
    first = RunningDistribution(2, momentum=0.9)
    assert first.update(q).tolist() == pytest.approx([0.7, 0.3])
    assert first.update(q.flip(1)).tolist() == pytest.approx([0.9 * 0.7 + 0.1 * 0.3, 0.9 * 0.3 + 0.1 * 0.7])
    uniform = RunningDistribution(2, momentum=0.9, uniform_start=True)
    assert uniform.update(q).tolist() == pytest.approx([0.9 * 0.5 + 0.1 * 0.7, 0.9 * 0.5 + 0.1 * 0.3])


def test_the_threshold_is_relative_to_confidence_on_labelled_images():
    algorithm = make_adamatch(threshold=0.9)
    labelled = torch.tensor([[0.9, 0.1], [0.3, 0.7]])  # mean confidence 0.8: the threshold is 0.72
    weak = torch.tensor([[0.75, 0.25], [0.25, 0.75], [0.7, 0.3], [0.3, 0.7]])  # their mean is uniform
    targets = algorithm.compute_targets(Views(labelled, weak, torch.arange(4)))
    assert targets.metrics["threshold"].item() == pytest.approx(0.72)
    assert targets.weight.tolist() == [1, 1, 0, 0]
    assert targets.target.tolist() == [0, 1, 0, 1]


def test_targets_are_those_of_aligned_predictions():
    algorithm = make_adamatch(threshold=0.0, hard_labels=False)
    weak = torch.tensor([[0.9, 0.1], [0.6, 0.4]])
    targets = algorithm.compute_targets(Views(torch.tensor([[0.5, 0.5]]), weak, torch.arange(2)))
    torch.testing.assert_close(targets.target, torch.tensor([[3 / 4, 1 / 4], [1 / 3, 2 / 3]]), rtol=1e-4, atol=0)


def test_all_statistics_are_in_the_checkpoint():
    assert set(make_adamatch().state_dict()) == {"unlabelled_distribution.value", "labelled_distribution.value"}
