"""What a generator computes in when it draws."""

import pytest
import torch

from dpt_ray.config.generator_section import GeneratorConfig, GeneratorModelConfig
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.generator import Generator, generator_file
from dpt_ray.report.canvas import new_canvas

FORM = {"image_size": 8, "channels": 1, "num_classes": 3}
PLACES = [(label, number) for label in range(3) for number in range(2)]


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> str:
    config = GeneratorConfig(model=GeneratorModelConfig(patch_size=4, dim=32, depth=2, heads=2))
    state = generator_training(config, **FORM, seed=0)
    for number, weight in enumerate(state.ema.model.parameters()):  # else it hardly predicts anything yet
        torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(number))
    path = tmp_path_factory.mktemp("generator") / NETWORK_FILE
    path.write_bytes(generator_file(config, FORM, state))
    return str(path)


def test_in_bfloat16_only_the_network_is_computed(file):
    generator, given, taken = Generator(file), set(), set()
    generator.network.register_forward_hook(lambda module, arguments, output: given.add(arguments[0].dtype))
    generator.network.mid_block.mlp[0].register_forward_hook(lambda module, arguments, output: taken.add(output.dtype))
    drawn = {p: generator.draw(SamplingConfig(steps=8, precision=p), 0, PLACES).int() for p in ("float32", "bfloat16")}
    assert (given, taken) == ({torch.float32}, {torch.float32, torch.bfloat16})
    difference = (drawn["bfloat16"] - drawn["float32"]).abs()
    assert 0 < difference.max() <= 12


@pytest.mark.slow
def test_a_compiled_generator_draws_the_same_images(file):
    config = SamplingConfig(steps=8)
    expected, got = (Generator(file, compiled=compiled).draw(config, 0, PLACES).int() for compiled in (False, True))
    assert (got - expected).abs().max() <= 1


def test_an_axis_names_its_values_in_full_where_they_lie_close_together():
    figure, axes = new_canvas(4, 3)
    axes.plot([0, 1], [1999.0001, 1999.0002])
    figure.canvas.draw()
    assert axes.yaxis.get_offset_text().get_text() == ""
    assert all(float(label.get_text()) > 1998 for label in axes.get_yticklabels())
