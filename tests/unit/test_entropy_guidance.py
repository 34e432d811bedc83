"""Entropy guidance: its formula, and that a classifier is less sure of what it yields."""

import math

import pytest
import torch

from dpt_ray.config.classifier_section import ClassifierModelConfig
from dpt_ray.config.generator_section import GeneratorConfig, GeneratorModelConfig
from dpt_ray.config.load import load_config
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.core.diffusion.entropy_guidance import entropy, entropy_guided
from dpt_ray.core.diffusion.samplers import sample
from dpt_ray.core.models.network_settings import build_classifier, build_generator, stored_settings
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.weights import save_network
from dpt_ray.errors import UserError
from dpt_ray.networks.generator import Generator

CLASSES, SIDE = 3, 8
WEIGHTS = torch.linspace(-1, 1, CLASSES * SIDE * SIDE).reshape(CLASSES, SIDE * SIDE).sin()
MODEL = ClassifierModelConfig(name="small_cnn", width=4)
GENERATOR = GeneratorConfig(model=GeneratorModelConfig(patch_size=4, dim=16, depth=2, heads=2))


def half(x, sigma, label):
    """Stand for a denoiser with a known gradient."""
    return x / 2


def linear(images):
    return images.flatten(1) @ WEIGHTS.T.to(images.dtype)


def noisy(rows=4):
    return RowRandom(range(rows)).normal(1, SIDE, SIDE).double()


@pytest.mark.parametrize(
    ("logits", "expected"), [([0.0] * 5, math.log(5)), ([1e4, 0, 0], 0.0), ([0, 0, -1e4], math.log(2))]
)
def test_entropy_is_that_of_the_softmax(logits, expected):
    assert entropy(torch.tensor([logits])).item() == pytest.approx(expected, abs=1e-6)


def test_the_denoiser_moves_along_the_gradient_of_the_entropy():
    x, sigma, label = noisy(), torch.tensor([0.1, 0.5, 1.0, 3.0], dtype=torch.float64), torch.zeros(4, dtype=torch.long)
    found = entropy_guided(half, lambda images: linear(images.double()), 0.7)(x, sigma, label)
    # Gradient of H for logits z with probabilities p: -p (log p + H), through z = W D(x) and D(x) = x / 2.
    log_p = (linear(x) / 2).log_softmax(1)
    gradient = -log_p.exp() * (log_p + entropy(linear(x) / 2)[:, None]) @ WEIGHTS.double() / 2
    expected = x / 2 + 0.7 * (sigma**2)[:, None, None, None] * gradient.reshape(x.shape)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)  # the clean images pass through float32
    assert not found.requires_grad


def test_scale_zero_is_the_denoiser_itself_and_negative_scales_are_refused():
    assert entropy_guided(half, linear, 0) is half
    with pytest.raises(ValueError, match=">= 0"):
        entropy_guided(half, linear, -1)


@pytest.fixture
def networks(tmp_path):
    torch.manual_seed(0)
    form = {"channels": 1, "num_classes": CLASSES}
    classifier = build_classifier(MODEL, channels=1, num_classes=CLASSES)
    described = {"kind": "classifier", "model": stored_settings(MODEL), **form}
    (tmp_path / "classifier.safetensors").write_bytes(save_network(classifier, described))
    generator = build_generator(GENERATOR, image_size=SIDE, channels=1, num_classes=CLASSES)
    settings = GENERATOR.model_dump(mode="json", exclude={"latents", "from"}) | {
        "model": stored_settings(GENERATOR.model)
    }
    described = {"kind": "generator", "image_size": SIDE, "config": settings, **form}
    (tmp_path / "generator.safetensors").write_bytes(save_network(generator, described))
    return str(tmp_path / "generator.safetensors"), str(tmp_path / "classifier.safetensors")


def gaussian(x, sigma, label):
    """Return the exact denoiser of standard normal images."""
    return x / (1 + sigma[:, None, None, None] ** 2)


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpm_solver_pp_2m"])
def test_a_classifier_is_less_sure_of_what_is_sampled_by_entropy(sampler):
    noise, labels = noisy(64).float(), torch.zeros(64, dtype=torch.long)
    means = []
    for scale in (0, 0.5, 2):
        denoiser = entropy_guided(gaussian, linear, scale)
        images = sample(sampler, denoiser, noise, labels, 20, 0.01, 10.0)
        means.append(entropy(linear(images)).mean().item())
    assert means[0] + 0.05 < means[1] < means[2] - 0.05


@pytest.mark.parametrize("guidance_scale", [0, 0.4])
def test_an_image_guided_by_entropy_does_not_depend_on_its_batch(networks, guidance_scale):
    generator, classifier = networks
    wanted = [(label, number) for label in range(CLASSES) for number in range(4)]
    opened = Generator(generator, judge=classifier)
    plain = SamplingConfig(steps=4, guidance_scale=guidance_scale)
    config = plain.model_copy(update={"entropy_scale": 5.0})
    images = opened.draw(config, 0, wanted)
    torch.testing.assert_close(images[3:5], opened.draw(config, 0, wanted[3:5]), rtol=0, atol=1)
    assert not torch.equal(images, opened.draw(plain, 0, wanted))
    assert torch.equal(opened.draw(plain, 0, wanted), Generator(generator).draw(plain, 0, wanted))


def test_a_generator_without_a_classifier_is_not_guided_by_entropy(networks):
    with pytest.raises(UserError, match="has no classifier beside it"):
        Generator(networks[0]).draw(SamplingConfig(entropy_scale=1), 0, [(0, 0)])


@pytest.mark.parametrize(
    "settings",
    [
        ["stage1.model.name=linear_probe", "stage1.probe.encoder=efficientnet-lite0"],
        ["stage2.latents={autoencoder: folder, downsampling: 2}"],
    ],
)
def test_what_has_no_gradient_to_pixels_is_refused(settings):
    with pytest.raises(UserError, match=r"sampling\.entropy_scale above 0 needs"):
        load_config(None, ["preset=digits", "sampling.entropy_scale=1", *settings])
