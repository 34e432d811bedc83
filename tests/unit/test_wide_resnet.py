"""Architecture of the classifiers: parameter counts, shapes, and what feeds what."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from dpt_ray.config.training_section import OptimizerConfig
from dpt_ray.core.models.small_cnn import SmallCnn
from dpt_ray.core.models.wide_resnet import ResidualBlock, WideResNet
from dpt_ray.core.training.optim import build_optimizer


def test_wrn_28_2_has_the_published_number_of_parameters():
    with torch.device("meta"):
        model = WideResNet(depth=28, width=2, in_channels=3, num_classes=10)
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_469_642


@pytest.mark.parametrize("depth", [4, 27, 9])
def test_impossible_depth_is_refused(depth):
    with pytest.raises(ValueError, match="6 n \\+ 4"):
        WideResNet(depth=depth)


@pytest.mark.parametrize("size", [8, 9, 32])
@pytest.mark.parametrize(
    "model",
    [WideResNet(depth=10, width=1, in_channels=1, num_classes=7), SmallCnn(1, 7, width=8)],
    ids=["wrn", "small"],
)
def test_logits_are_the_head_of_the_features_at_any_size(model, size):
    model.eval()
    images = torch.randn(3, 1, size, size, generator=torch.Generator().manual_seed(0))
    features = model.features(images)
    assert features.shape == (3, model.feature_size)
    assert model(images).shape == (3, 7)
    torch.testing.assert_close(model(images), model.head(features))


@pytest.mark.parametrize(
    "model",
    [WideResNet(depth=10, width=2), WideResNet(depth=10, width=2, form="preactivation"), SmallCnn(3, 10, width=8)],
    ids=["torchssl", "preactivation", "small"],
)
def test_every_parameter_that_asks_for_a_gradient_gets_one(model):
    # One without would stop DistributedDataParallel.
    model(torch.randn(2, 3, 8, 8)).logsumexp(1).sum().backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in model.parameters())
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    torchssl = isinstance(model, WideResNet) and any(block.skip_first_norm for block in model.blocks)
    skipped = {f"blocks.{i}.norm1.{part}" for i in (1, 2) for part in ("weight", "bias")}
    assert frozen == (skipped if torchssl else set())


def blocks_of(**options) -> list[ResidualBlock]:
    return [module for module in WideResNet(**options).modules() if isinstance(module, ResidualBlock)]


@pytest.mark.parametrize("form", ["torchssl", "preactivation"])
def test_only_the_first_shortcut_is_activated(form):
    blocks = blocks_of(depth=16, width=2, form=form)
    assert [block.activate_shortcut for block in blocks] == [True, False, False, False, False, False]
    assert [block.conv1.stride[0] for block in blocks] == [1, 1, 2, 1, 2, 1]
    raw = [False, False, True, False, True, False] if form == "torchssl" else [False] * 6
    assert [block.skip_first_norm for block in blocks] == raw


def test_a_first_block_that_does_not_widen_is_an_ordinary_one_in_torchssl():
    assert not blocks_of(depth=10, width=1)[0].activate_shortcut
    assert blocks_of(depth=10, width=1, form="preactivation")[0].activate_shortcut


class Recipe:
    """Weights by a rule, in the order in which the forward pass meets them; known answers are for the seed 0."""

    def __init__(self, depth: int, width: int):
        self.random = np.random.default_rng(0)
        self.stem = self._convolution(16, 3, 3)
        self.blocks, channels = [], 16
        for wide in (16 * width, 32 * width, 64 * width):
            for _ in range((depth - 4) // 6):
                block = {"norm1": self._norm(channels), "conv1": self._convolution(wide, channels, 3)}
                block |= {"norm2": self._norm(wide), "conv2": self._convolution(wide, wide, 3)}
                if wide != channels:
                    block["shortcut"] = self._convolution(wide, channels, 1)
                self.blocks.append(block)
                channels = wide
        self.norm = self._norm(channels)
        self.head = self._tensors(0.1 * self.random.standard_normal((10, channels)), 0.1 * self._normal(10))
        self.images = torch.from_numpy(self.random.standard_normal((2, 3, 32, 32)))

    def _normal(self, *shape):
        return self.random.standard_normal(shape)

    def _convolution(self, outputs, inputs, side):
        scale = math.sqrt(2 / (outputs * side * side))
        return self._tensors(scale * self._normal(outputs, inputs, side, side), 0.1 * self._normal(outputs))

    def _norm(self, channels):
        weight, bias = self.random.uniform(0.5, 1.5, channels), 0.2 * self._normal(channels)
        return self._tensors(weight, bias, 0.1 * self._normal(channels), self.random.uniform(0.5, 2, channels))

    @staticmethod
    def _tensors(*arrays):
        return [torch.from_numpy(array) for array in arrays]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The weights in the names of `WideResNet`."""
        parts = {"stem": self.stem, "norm": self.norm, "head": self.head}
        parts |= {f"blocks.{i}.{name}": part for i, block in enumerate(self.blocks) for name, part in block.items()}
        state = {}
        for part, tensors in parts.items():
            names = ["weight", "bias", "running_mean", "running_var"][: len(tensors)]
            state |= {f"{part}.{name}": tensor for name, tensor in zip(names, tensors, strict=True)}
            if len(tensors) == 4:
                state[f"{part}.num_batches_tracked"] = torch.tensor(0)
        return state

    def network(self, depth: int, width: int, form: str = "torchssl") -> WideResNet:
        network = WideResNet(depth, width, form=form).double()
        network.load_state_dict(self.state_dict())
        return network

    def logits(self) -> torch.Tensor:
        """The official network, evaluated by its formulas."""
        maps = self._convolved(self.images, self.stem)
        for number, block in enumerate(self.blocks):
            stride = 2 if number and "shortcut" in block else 1
            active = self._activated(maps, block["norm1"])
            if "shortcut" not in block:
                first, shortcut = active, maps
            elif number == 0:  # activated before it splits
                first, shortcut = active, self._convolved(active, block["shortcut"])
            else:
                first, shortcut = maps, self._convolved(maps, block["shortcut"], stride)
            inner = self._activated(self._convolved(first, block["conv1"], stride), block["norm2"])
            maps = shortcut + self._convolved(inner, block["conv2"])
        return self._activated(maps, self.norm).mean((2, 3)) @ self.head[0].T + self.head[1]

    @staticmethod
    def _convolved(maps, convolution, stride=1):
        weight, bias = convolution
        side = weight.shape[2]
        padded = torch.nn.functional.pad(maps, [side // 2] * 4)
        patches = padded.unfold(2, side, stride).unfold(3, side, stride)  # (B, C, H, W, side, side)
        return torch.einsum("bchwij,ocij->bohw", patches, weight) + bias[:, None, None]

    @staticmethod
    def _activated(maps, norm):
        weight, bias, mean, variance = (values[:, None, None] for values in norm)
        normalised = weight * (maps - mean) / (variance + 1e-3).sqrt() + bias
        return torch.where(normalised > 0, normalised, 0.1 * normalised)


_KNOWN = """
    9.283707 -11.642484 10.543297 -1.204893 29.982078 14.141308 -13.727716 -21.235935 -10.360106 -1.347420
    9.351685 -10.715522 9.304445 -3.750210 28.024818 11.906074 -12.587543 -20.100845 -11.584727 -2.154312
"""
OFFICIAL_LOGITS = torch.tensor([float(value) for value in _KNOWN.split()], dtype=torch.float64).view(2, 10)
"""Of WRN-28-2 in evaluation mode, by TorchSSL's network in the official code, rounded to six digits."""


def test_logits_of_equal_weights_are_the_official_ones():
    recipe = Recipe(28, 2)
    logits = recipe.network(28, 2).eval()(recipe.images)
    torch.testing.assert_close(logits, OFFICIAL_LOGITS, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(logits, recipe.logits(), rtol=1e-10, atol=1e-10)


def test_the_textbooks_form_has_other_logits_and_equal_weights():
    recipe = Recipe(28, 2)
    textbook = recipe.network(28, 2, "preactivation").eval()(recipe.images)
    assert (textbook - OFFICIAL_LOGITS).abs().max() > 10
    assert recipe.network(28, 2, "preactivation").state_dict().keys() == recipe.network(28, 2).state_dict().keys()


@pytest.mark.parametrize(("depth", "width"), [(10, 1), (10, 3), (16, 2)])
def test_other_sizes_follow_the_same_formulas(depth, width):
    recipe = Recipe(depth, width)
    torch.testing.assert_close(recipe.network(depth, width).eval()(recipe.images), recipe.logits())


def test_a_skipped_norm_follows_its_input_and_is_not_trained():
    recipe = Recipe(10, 2)
    network = recipe.network(10, 2).train()
    inputs = {}
    for name in ("blocks.1.norm1", "blocks.2.norm1"):
        network.get_submodule(name).register_forward_pre_hook(lambda _, args, name=name: inputs.update({name: args[0]}))
    optimizer = build_optimizer(
        network, OptimizerConfig(name="sgd", learning_rate=0.1, weight_decay=0.5, decay_all_parameters=True)
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(recipe.images).logsumexp(1).sum().backward()
    optimizer.step()
    after = network.state_dict()
    assert inputs.keys() == {"blocks.1.norm1", "blocks.2.norm1"}
    for name, maps in inputs.items():
        mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3), unbiased=True)
        for part, value in (("running_mean", mean), ("running_var", variance)):
            wanted = 0.999 * before[f"{name}.{part}"] + 0.001 * value
            torch.testing.assert_close(after[f"{name}.{part}"], wanted)
        assert after[f"{name}.num_batches_tracked"] == 1
        for part in ("weight", "bias"):  # as in the official code: no gradient, and so not even weight decay
            assert network.get_parameter(f"{name}.{part}").grad is None
            assert torch.equal(after[f"{name}.{part}"], before[f"{name}.{part}"])
    moved = {name for name, _ in network.named_parameters() if not torch.equal(before[name], after[name])}
    skipped = {f"{name}.{part}" for name in inputs for part in ("weight", "bias")}
    assert moved == {name for name, _ in network.named_parameters()} - skipped


def test_evaluation_leaves_the_statistics_alone():
    network = WideResNet(depth=10, width=2).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(torch.randn(2, 3, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_initial_biases_of_convolutions_are_torchs_or_zero():
    torch.manual_seed(0)
    for form, drawn in (("torchssl", True), ("preactivation", False)):
        network = WideResNet(depth=10, width=4, form=form)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                bound = 1 / math.sqrt(module.in_channels * module.kernel_size[0] ** 2)
                assert module.bias.abs().max() <= bound
                assert (module.bias.abs().max() > 0.8 * bound) == drawn
                assert (module.bias.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.5)) == drawn
        assert not network.head.bias.any()
