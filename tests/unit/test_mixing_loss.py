"""Stage 3's mixing: weights of pseudo images, their own batch-norm statistics, the split of a step."""

import math

import pytest
import torch
from semi_supervised_batches import FixedLogits, logits_of, make_batch, make_objective
from torch import nn

from dpt_ray.config.classifier_section import MixingConfig
from dpt_ray.config.load import load_config
from dpt_ray.core.models.batch_norm import BatchNorm2d, set_auxiliary_rows
from dpt_ray.core.semi_supervised.algorithm import Task
from dpt_ray.core.semi_supervised.algorithms.supervised import Supervised
from dpt_ray.errors import UserError

SUPERVISED = Supervised(Supervised.Settings(), Task(2, 0, 1))


def test_rows_of_the_union_after_the_real_ones_are_weighted():
    batch = make_batch(3, [0, 0, 1])  # indices 0, 1, 2; the first two are real
    model = FixedLogits(logits_of([0.5, 0.5], [0.8, 0.2], [0.9, 0.1]))
    loss, _ = make_objective(SUPERVISED, num_real=2, pseudo_weight=0.25)(model, {"labelled": batch})
    expected = (math.log(0.5) + math.log(0.8) + 0.25 * math.log(0.1)) / -3
    assert loss.item() == pytest.approx(expected)


def test_pseudo_images_apart_are_weighted_and_pass_through_the_network_with_the_others():
    model = FixedLogits(logits_of([0.5, 0.5]), logits_of([0.9, 0.1], [0.2, 0.8]))
    batches = {"labelled": make_batch(1, [0]), "pseudo": make_batch(2, [0, 1], first_seed=5)}
    loss, metrics = make_objective(SUPERVISED, pseudo_weight=0.5)(model, batches)
    expected = (math.log(0.5) + 0.5 * (math.log(0.9) + math.log(0.8))) / -3
    assert loss.item() == pytest.approx(expected)
    assert model.calls == 1
    assert set(metrics) == {"loss", "labelled_loss"}


def test_auxiliary_rows_are_normalised_by_themselves_and_leave_the_running_statistics_alone():
    torch.manual_seed(0)
    real, pseudo = torch.randn(4, 2, 3, 3) + 5, 3 * torch.randn(6, 2, 3, 3) - 1
    norm, alone, other = BatchNorm2d(2), BatchNorm2d(2), BatchNorm2d(2)
    set_auxiliary_rows(nn.Sequential(norm), 6)
    together = norm(torch.cat([real, pseudo]))
    torch.testing.assert_close(together, torch.cat([alone(real), other(pseudo)]))
    torch.testing.assert_close(norm.running_mean, alone.running_mean)
    torch.testing.assert_close(norm.running_var, alone.running_var)
    assert norm.num_batches_tracked == 1
    norm.eval(), alone.eval()
    torch.testing.assert_close(norm(pseudo), alone(pseudo))  # evaluation knows one kind of images


def test_statistics_are_apart_only_where_that_is_asked_for():
    norm = BatchNorm2d(1)
    model = nn.Sequential(norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    batches = {"labelled": make_batch(2, [0, 1]), "pseudo": make_batch(3, [0, 1, 1], first_seed=5)}
    for wanted in (True, False):
        make_objective(SUPERVISED, separate_statistics=wanted)(model, batches)
        assert norm.auxiliary_rows == (3 if wanted else 0)


@pytest.mark.parametrize(
    ("share", "batch", "split"),
    [(0.5, 64, (32, 32)), (0.25, 32, (8, 24)), (0.01, 32, (8, 24)), (0.99, 32, (24, 8)), (0.3, 40, (16, 24))],
)
def test_a_step_is_split_in_whole_lanes(share, batch, split):
    assert MixingConfig(real_share=share).split(batch, lanes=8) == split


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["stage3.mixing.separate_statistics=true"], "needs real_share"),
        (["stage3.mixing.least_confidence=0.5"], "only_agreeing"),
        (["stage3.mixing.real_share=0.5", "stage3.labelled_batch=8"], "labelled_batch of at least 2 data.lanes"),
        (["stage3.mixing.real_share=1"], "stage3.mixing.real_share"),
        (["stage3.mixing.from_stage1=true", "stage3.model.width=64"], "needs the same network in both"),
        (["stage3.mixing.from_stage1=true", "stage1.model.name=linear_probe"], "no effect on a linear probe"),
    ],
)
def test_contradictory_mixing_is_refused(settings, told):
    with pytest.raises(UserError, match=told):
        load_config(None, ["preset=digits", *settings])
