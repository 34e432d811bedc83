"""The preset `cifar10` holds the paper's constants of stages 1 and 3, and they reach what trains."""

import math

import pytest
import torch
from torch import nn

from dpt_ray.config.load import load_config
from dpt_ray.core.build import classifier_training, images_per_step
from dpt_ray.core.models.batch_norm import BatchNorm2d
from dpt_ray.core.semi_supervised.augmentation import PAPER_RANGES
from dpt_ray.core.training.optim import learning_rate


@pytest.fixture(scope="module")
def config():
    return load_config(None, ["preset=cifar10", "data.train=unread", "data.test=unread"])


@pytest.fixture(scope="module")
def state(config):
    return classifier_training(config.stage1, channels=3, num_classes=10, num_unlabelled=50_000, seed=0)


def test_length_and_batches(config):
    stage = config.stage1
    assert (stage.labelled_batch, stage.unlabelled_batch) == (64, 448)
    assert stage.images == 2**20 * images_per_step(stage)
    assert config.labels.per_class == 4
    assert config.stage3 == config.stage1


def test_the_network_is_wrn_28_2_with_slow_batch_norm(state):
    assert sum(parameter.numel() for parameter in state.model.parameters()) == 1_469_642
    norms = [module for module in state.model.modules() if isinstance(module, BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 1e-3)}
    assert all(module.bias is not None for module in state.model.modules() if isinstance(module, nn.Conv2d))


def test_sgd_with_nesterov_momentum_decays_weights_alone(state):
    optimizer = state.optimizer
    assert isinstance(optimizer, torch.optim.SGD)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert all(group["momentum"] == 0.9 and group["nesterov"] for group in optimizer.param_groups)
    for name, parameter in state.model.named_parameters():
        excluded = "norm" in name or "bias" in name
        assert decay[id(parameter)] == (0.0 if excluded else 5e-4), name


def test_the_rate_falls_with_the_cosine_of_seven_sixteenths(config):
    optimizer, total = config.stage1.optimizer, config.stage1.images
    assert learning_rate(optimizer, 0, total) == 0.03
    assert learning_rate(optimizer, total // 2, total) == pytest.approx(0.03 * math.cos(7 * math.pi / 32))
    assert learning_rate(optimizer, total, total) == pytest.approx(0.03 * math.cos(7 * math.pi / 16))


def test_thresholds_and_average(state):
    algorithm = state.objective.algorithm
    assert algorithm.settings.statistics_momentum == 0.999
    assert algorithm.unlabelled_weight == 1.0
    assert algorithm.tau.item() == algorithm.p_tilde[3].item() == algorithm.h_tilde[3].item() == pytest.approx(0.1)
    assert state.ema.decay == 0.999


def test_views(state):
    objective = state.objective
    assert (objective.weak.flip, objective.weak.crop_padding) == (True, 4)
    assert (objective.strong.num_operations, objective.strong.cutout) == (3, 0.5)
    assert objective.strong.ranges == PAPER_RANGES
    assert len(PAPER_RANGES) == 14
    assert objective.mean == pytest.approx([125.3 / 255, 123.0 / 255, 113.9 / 255], abs=1e-4)
    assert objective.std == pytest.approx([63.0 / 255, 62.1 / 255, 66.7 / 255], abs=1e-4)
