"""Architecture of the classifiers: parameter counts, shapes, and what feeds what."""

import pytest
import torch

from dpt_ray.core.models.small_cnn import SmallCnn
from dpt_ray.core.models.wide_resnet import ResidualBlock, WideResNet


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


@pytest.mark.parametrize("model", [WideResNet(depth=10, width=1), SmallCnn(3, 10, width=8)], ids=["wrn", "small"])
def test_every_parameter_gets_a_gradient(model):
    # An unused parameter would stop DistributedDataParallel.
    model(torch.randn(2, 3, 8, 8)).logsumexp(1).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_only_the_first_shortcut_is_activated():
    blocks = [module for module in WideResNet(depth=16, width=2).modules() if isinstance(module, ResidualBlock)]
    assert [block.activate_shortcut for block in blocks] == [True, False, False, False, False, False]
    assert [block.conv1.stride[0] for block in blocks] == [1, 1, 2, 1, 2, 1]
