"""Labels that start as mixtures of another network's: closed forms, and networks that compute the same with them."""

import numpy as np
import pytest
import torch

from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.core.label_mixtures import LabelMixtures
from dpt_ray.core.models.network_settings import build_generator
from dpt_ray.core.models.pixel_means import PixelMeans

MODELS = {
    "uvit": {"name": "uvit", "dim": 16, "depth": 2, "heads": 2},
    "ddpmpp": {"name": "ddpmpp", "channels": 8, "multipliers": [1], "blocks": 1, "attention_sizes": []},
}


def test_a_mixture_is_the_mean_over_images_and_a_label_without_images_keeps_its_row():
    rows, own = torch.eye(3), torch.full((3, 3), 7.0)
    counted = LabelMixtures(np.array([0, 0, 2]), np.array([1, 2, 0]), np.array([1, 3, 5]), (3, 3))
    expected = torch.tensor([[0, 0.25, 0.75], [7, 7, 7], [1, 0, 0]])
    torch.testing.assert_close(counted.mixed(rows, own), expected)


@pytest.mark.parametrize("name", MODELS)
def test_a_class_of_one_cluster_is_drawn_as_that_cluster(name):
    config = GeneratorConfig(model=MODELS[name], label_dropout=0.1)
    torch.manual_seed(0)
    other, network = (build_generator(config, image_size=8, channels=1, num_classes=count) for count in (5, 2))
    for parameter in other.parameters():  # layers that start at zero would hide the label
        parameter.data += 0.1 * torch.randn_like(parameter)
    held = other.state_dict()
    mixtures = LabelMixtures(np.array([0, 1]), np.array([3, 1]), np.array([4, 9]), (2, 5))
    own = network.state_dict()
    same = {key: value for key, value in held.items() if own[key].shape == value.shape}
    network.load_state_dict(own | same | network.mixed_labels(held, mixtures))
    images, time = torch.randn(3, 1, 8, 8), torch.tensor([0.1, 0.5, 0.9])
    with torch.no_grad():
        new, old = network(images, time, torch.tensor([0, 1, 2])), other(images, time, torch.tensor([3, 1, 5]))
        torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-5)
        assert (new - other(images, time, torch.tensor([0, 0, 0]))).abs().max() > 1e-3


def test_means_of_pixels_are_those_of_squares():
    images = torch.arange(2 * 3 * 16 * 24, dtype=torch.int64).reshape(2, 3, 16, 24).remainder(256).to(torch.uint8)
    found = PixelMeans()(images)
    assert found.shape == (2, 3 * 64)
    assert found[0, 0] == pytest.approx(images[0, 0, :2, :3].float().mean().item() / 255)
    assert PixelMeans()(images[..., :4, :5]).shape == (2, 3 * 20)
