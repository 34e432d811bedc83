"""The preset `cifar10` is the paper's recipe for the classifiers, constant by constant."""

import math

import pytest
import torch
from semi_supervised_batches import make_batch
from torch import nn

from dpt_ray.config.classifier_section import AlgorithmConfig, ClassifierConfig, ClassifierModelConfig
from dpt_ray.config.load import load_config
from dpt_ray.core.models.batch_norm import BatchNorm2d
from dpt_ray.core.models.network_settings import build_classifier
from dpt_ray.core.models.wide_resnet import LEAK, ResidualBlock, WideResNet
from dpt_ray.core.semi_supervised.algorithms import algorithm_settings
from dpt_ray.core.training.ema import Ema
from dpt_ray.core.training.from_settings import classifier_training
from dpt_ray.core.training.optim import build_optimizer, learning_rate

CONFIG = load_config(None, ["preset=cifar10", "data.train=unread", "data.test=unread"])
STAGES = [CONFIG.stage1, CONFIG.stage3]


@pytest.fixture(scope="module")
def network() -> WideResNet:
    torch.manual_seed(0)
    return build_classifier(CONFIG.stage1.model, channels=3, num_classes=10)


@pytest.mark.parametrize("stage", STAGES, ids=["stage1", "stage3"])
def test_lengths_rates_and_shares(stage):
    assert (stage.labelled_batch, stage.unlabelled_batch) == (64, 7 * 64)
    assert stage.images == 2**20 * (64 + 448)
    method = algorithm_settings(stage.algorithm)
    assert (stage.algorithm.name, method.unlabelled_weight) == ("freematch", 1.0)
    assert (method.statistics_momentum, method.fairness_weight) == (0.999, 0.001)
    assert (stage.ema_decay, stage.precision) == (0.999, "float32")
    assert (stage.optimizer.name, stage.optimizer.momentum) == ("sgd", 0.9)
    assert (stage.optimizer.learning_rate, stage.optimizer.weight_decay) == (0.03, 5e-4)
    assert (stage.optimizer.warmup_images, stage.optimizer.gradient_clip) == (0, None)
    views = stage.augmentation
    assert (views.flip, views.crop_padding, views.strong_operations, views.cutout) == (True, 4, 3, 0.5)
    assert [round(255 * m, 1) for m in stage.model.mean] == [125.3, 123.0, 113.9]
    assert [round(255 * s, 1) for s in stage.model.std] == [63.0, 62.1, 66.7]


def test_four_labels_of_each_class():
    assert CONFIG.labels.per_class == 4
    assert CONFIG.data.num_classes == 10


@pytest.mark.parametrize("step", [0, 1000, 2**19, 2**20 - 1])
def test_the_rate_falls_by_the_step_over_all_steps(step):
    optimizer, batch = CONFIG.stage1.optimizer, 64 + 448
    expected = 0.03 * math.cos(7 * math.pi * step / (16 * 2**20))
    assert learning_rate(optimizer, step * batch, CONFIG.stage1.images) == pytest.approx(expected, rel=1e-12)


def test_weight_decay_spares_biases_and_batch_norm_and_nothing_else(network):
    optimizer = build_optimizer(network, CONFIG.stage1.optimizer)
    decay = {parameter: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    spared = {name for name, parameter in network.named_parameters() if decay[parameter] == 0}
    norms = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    expected = {f"{name}.weight" for name in norms}
    expected |= {name for name, _ in network.named_parameters() if name.endswith("bias")}
    assert spared == expected
    assert set(decay.values()) == {0.0, 5e-4}
    assert all(group["nesterov"] for group in optimizer.param_groups)


def test_batch_norm_slope_and_convolutions_are_those_of_the_published_network(network):
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(type(norm), norm.eps, norm.momentum) for norm in norms} == {(BatchNorm2d, 1e-3, 1e-3)}
    assert LEAK == 0.1
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert all(convolution.bias is not None for convolution in convolutions)
    assert not [module for module in network.modules() if isinstance(module, nn.Dropout)]
    blocks = [module for module in network.modules() if isinstance(module, ResidualBlock)]
    assert [block.conv2.out_channels for block in blocks] == [32] * 4 + [64] * 4 + [128] * 4
    assert [number for number, block in enumerate(blocks) if block.skip_first_norm] == [4, 8]
    wider = [isinstance(block.shortcut, nn.Conv2d) for block in blocks]
    assert wider == [block.conv1.in_channels != block.conv1.out_channels for block in blocks]


def test_initial_weights_are_kaiming_fan_out_and_xavier(network):
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            tolerance = 6 / math.sqrt(module.weight.numel())
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=tolerance)
    head = network.head.weight
    assert head.std().item() == pytest.approx(math.sqrt(2 / sum(head.shape)), rel=0.15)
    others = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.Linear)]
    assert all(module.bias.abs().max() == 0 for module in others)
    for module in network.modules():  # torch's own: uniform in +-1 / sqrt(fan_in)
        if isinstance(module, nn.Conv2d):
            bound = 1 / math.sqrt(module.in_channels * module.kernel_size[0] * module.kernel_size[1])
            assert 0.8 * bound < module.bias.abs().max() <= bound


def test_the_average_is_a_copy_at_the_start_and_keeps_0_999(network):
    ema = Ema(network, CONFIG.stage1.ema_decay)
    before = network.head.weight.detach().clone()
    assert torch.equal(ema.model.head.weight, before)
    with torch.no_grad():
        network.head.weight.add_(1.0)
    ema.update(network, 0)
    torch.testing.assert_close(ema.model.head.weight, before + 0.001)
    with torch.no_grad():
        network.head.weight.copy_(before)


class Linear(nn.Module):
    """Logits that depend on the images, from weights that are the same whenever it is built."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 3, generator=torch.Generator().manual_seed(0)))

    def forward(self, images):
        return images.flatten(1) @ self.weight


def test_fairness_weight_0_is_the_loss_without_the_term():
    """Loss and gradient: labelled cross entropy plus the masked one, as in the official run."""
    losses, gradients, extras = {}, {}, {}
    for weight in (0.0, 0.5):
        config = ClassifierConfig(
            model=ClassifierModelConfig(width=4),
            algorithm=AlgorithmConfig(fairness_weight=weight, statistics_momentum=0.5),
        )
        state = classifier_training(config, channels=1, num_classes=3, seed=0)
        model = Linear()
        batches = {"labelled": make_batch(6, [0, 1, 2] * 2), "unlabelled": make_batch(9, first_seed=50)}
        loss, metrics = state.objective(model, batches)
        loss.backward()
        losses[weight], gradients[weight] = loss.item(), model.weight.grad
        extras[weight] = loss.item() - metrics["labelled_loss"].item() - metrics["unlabelled_loss"].item()
    assert extras[0.0] == pytest.approx(0, abs=1e-6)
    assert abs(extras[0.5]) > 1e-2
    assert not torch.allclose(gradients[0.0], gradients[0.5])
