"""A whole solver can be captured as a CUDA graph: no value goes to the host or comes from it."""

import pytest
import torch
from test_graphed_step import OnDevice

from dpt_ray.config.generator_section import GeneratorConfig, GeneratorModelConfig
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.core.diffusion.process_settings import build_guidance, build_process
from dpt_ray.core.diffusion.samplers import SAMPLERS, sample
from dpt_ray.core.models.network_settings import build_generator
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.networks.generator import Generator, generator_file

FORM = {"image_size": 8, "channels": 1, "num_classes": 3}
CONFIG = GeneratorConfig(model=GeneratorModelConfig(patch_size=4, dim=16, depth=2, heads=2))


@pytest.mark.parametrize("process", ["variance_preserving", "edm"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_solver_stays_on_its_device(name, process):
    config = CONFIG.model_copy(update={"process": process})
    built = build_process(config)
    if SAMPLERS[name].sigmas is None and built.schedule is None:
        pytest.skip("its grid needs a process with times")
    with torch.device("meta"):
        network = build_generator(config, **FORM).eval()
    sampling = SamplingConfig(guidance_scale=0.4, steps=4, sampler=name)
    guided = build_guidance(sampling, built.denoiser(network), null_label=3)
    noise, labels = torch.zeros(2, 1, 8, 8, device="meta"), torch.zeros(2, dtype=torch.int64, device="meta")

    def solve() -> torch.Tensor:
        return sample(name, guided, noise, labels, 4, built.sigma_min, built.sigma_max, built.schedule)

    with torch.inference_mode():
        solve()  # constants are copied once
        with OnDevice() as watched:
            assert solve().shape == noise.shape
    assert watched.operations["aten._local_scalar_dense.default"] == 0
    assert sum(watched.operations.values()) > 100


def test_a_generator_that_is_captured_draws_the_same_images_where_nothing_is_captured(tmp_path):
    file = tmp_path / "network.safetensors"
    file.write_bytes(generator_file(CONFIG, FORM, generator_training(CONFIG, **FORM, seed=0)))
    wanted = [(label, number) for label in range(3) for number in range(2)]
    plain, graphed = (Generator(str(file), graphed=graphed) for graphed in (False, True))
    for config in (SamplingConfig(steps=3), SamplingConfig(steps=4, guidance_scale=0.4), SamplingConfig(steps=3)):
        assert torch.equal(plain.draw(config, 0, wanted), graphed.draw(config, 0, wanted))
    assert len(graphed._solvers) == 2  # one for each settings
