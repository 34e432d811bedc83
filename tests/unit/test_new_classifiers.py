"""ResNet-18 and the vision transformer: sizes, shapes, and files."""

import pytest
import torch

from dpt_ray.config.classifier_section import ClassifierConfig, ClassifierModelConfig
from dpt_ray.config.training_section import OptimizerConfig
from dpt_ray.core.models.network_settings import build_classifier
from dpt_ray.core.models.resnet18 import ResNet18
from dpt_ray.core.models.vision_transformer import VisionTransformer
from dpt_ray.core.training.from_settings import classifier_training
from dpt_ray.networks.classifier import Classifier, classifier_file


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_resnet18_for_small_images_has_its_known_size():
    with torch.device("meta"):
        network = ResNet18(3, 10)
        assert parameters(network) == 11_173_962
        assert network.features(torch.zeros(2, 3, 32, 32)).shape == (2, 512)
        assert network.blocks(torch.zeros(2, 64, 32, 32)).shape == (2, 512, 4, 4)


def test_vit_small_has_its_known_size():
    # Dosovitskiy's ViT-S/16 has 22,050,664 parameters, with 197 learnt positions of 384 and biases of the queries,
    # keys and values in 12 blocks, which this one lacks.
    with torch.device("meta"):
        network = VisionTransformer(3, 1000, patch_size=16, dim=384, blocks=12, heads=6)
    assert parameters(network) == 22_050_664 - 197 * 384 - 12 * 3 * 384


def test_positions_tell_patches_apart():
    torch.manual_seed(0)
    network = VisionTransformer(1, 10, patch_size=2, dim=16, blocks=1, heads=2).eval()
    image = torch.randn(1, 1, 8, 8)
    moved = image.roll(2, dims=3)
    assert not torch.allclose(network.features(image), network.features(moved), atol=1e-4)
    grid = network._positions(4, 4, torch.zeros(1, 16))
    assert len(grid.unique(dim=0)) == 16


def test_vit_encodes_images_of_other_sizes():
    network = VisionTransformer(1, 10, patch_size=2, dim=16, blocks=1, heads=2)
    assert network(torch.zeros(3, 1, 12, 12)).shape == (3, 10)


@pytest.mark.parametrize("dim", [18, 20])
def test_vit_refuses_widths_that_heads_do_not_divide(dim):
    with pytest.raises(ValueError, match="multiple of 4 and of heads"):
        VisionTransformer(1, 10, patch_size=2, dim=dim, blocks=1, heads=3)


@pytest.mark.parametrize(
    "model",
    [
        ClassifierModelConfig(name="resnet18", width=2),
        ClassifierModelConfig(name="vit", patch_size=2, dim=8, blocks=1, heads=2),
    ],
)
def test_both_train_in_stage_1_and_come_back_from_their_files(tmp_path, model):
    config = ClassifierConfig(model=model, optimizer=OptimizerConfig())
    state = classifier_training(config, channels=1, num_classes=3, num_unlabelled=4, seed=0)
    (tmp_path / "network.safetensors").write_bytes(classifier_file(model, 1, 3, state))
    loaded = Classifier(str(tmp_path / "network.safetensors"))
    images = torch.randint(256, (4, 1, 8, 8), dtype=torch.uint8)
    probabilities, features = loaded(images)
    assert probabilities.shape == (4, 3)
    pixels = (images / 255 - 0.5) / 0.5
    torch.testing.assert_close(features, state.ema.model.features(pixels), rtol=1e-4, atol=1e-5)
    assert parameters(build_classifier(model, channels=1, num_classes=3)) == parameters(loaded.network)
