"""Guidance from the network's prediction at confidence 0 (arXiv 2405.20324)."""

import pytest
import torch

from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.config.load import load_config
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.errors import UserError
from dpt_ray.networks.generator import Generator, generator_file

FORM = {"image_size": 8, "channels": 1, "num_classes": 3}
WANTED = [(0, 0), (2, 1)]


def write(folder, *, confidence: bool) -> Generator:
    config = GeneratorConfig.model_validate(
        {
            "model": {"patch_size": 4, "dim": 16, "depth": 2, "heads": 2},
            "conditioning": {"confidence": confidence},
            "label_dropout": 0.0,
        }
    )
    state = generator_training(config, **FORM, seed=0)
    random = torch.Generator().manual_seed(0)
    for parameter in state.ema.model.parameters():  # the embedding of the confidence starts at zero
        torch.nn.init.normal_(parameter, std=0.3, generator=random)
    (folder / "network.safetensors").write_bytes(generator_file(config, FORM, state))
    return Generator(str(folder / "network.safetensors"))


def sampled(generator: Generator, **settings) -> torch.Tensor:
    return generator.draw(SamplingConfig(steps=3, **settings), 1, WANTED)


def test_the_estimate_is_extrapolated_from_that_at_confidence_0(tmp_path):
    generator = write(tmp_path, confidence=True)
    config = SamplingConfig(guidance_method="confidence", guidance_scale=2.0)
    x, sigma, label = torch.randn(2, 1, 8, 8), torch.tensor([0.5, 3.0]), torch.tensor([0, 2])

    def at(confidence: float):
        network = lambda x, time, label: generator.network(  # noqa: E731
            x, time, label, confidence=torch.full((len(x),), confidence)
        )
        return generator.process.denoiser(network)(x, sigma, label)

    strong, weak = generator._denoiser(generator.network, config), generator._weaker(config)
    torch.testing.assert_close(strong(x, sigma, label), at(1.0))
    torch.testing.assert_close(weak(x, sigma, label), at(0.0))
    assert (at(1.0) - at(0.0)).abs().max() > 1e-3


def test_images_are_guided_without_label_dropout(tmp_path):
    generator = write(tmp_path, confidence=True)
    plain = sampled(generator, guidance_scale=0)
    assert torch.equal(sampled(generator, guidance_method="confidence", guidance_scale=0), plain)
    assert not torch.equal(sampled(generator, guidance_method="confidence", guidance_scale=5.0), plain)


def test_a_generator_that_knows_no_confidence_is_refused(tmp_path):
    with pytest.raises(UserError, match="was not conditioned on confidence"):
        sampled(write(tmp_path, confidence=False), guidance_method="confidence", guidance_scale=1.0)
    with pytest.raises(UserError, match=r"set stage2\.conditioning\.confidence=true"):
        load_config(None, ["preset=digits"], ["sampling.guidance_method=confidence"])
    told = ["sampling.guidance_method=confidence", "stage2.conditioning.confidence=true", "stage2.label_dropout=0"]
    assert load_config(None, ["preset=digits"], told).sampling.guidance_method == "confidence"
