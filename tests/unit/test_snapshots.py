"""Snapshots of power-function averages as files, and generators made of them."""

from pathlib import Path

import pytest
import torch

from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.core.training.power_ema import TRACKED, PowerEma
from dpt_ray.core.weights import load_network
from dpt_ray.data.storage.stores import write_bytes
from dpt_ray.errors import UserError
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.generator import Generator, generator_file
from dpt_ray.networks.snapshots import SNAPSHOT_FOLDER, averaged_weights, snapshot_files

FORM = {"image_size": 8, "channels": 1, "num_classes": 3}
WIDTH, STEPS = 0.075, 200


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def trained(tmp_path):
    """The folder of a training whose first tensor moved along a line, and the average that was kept of it."""
    model = {"name": "ddpmpp", "channels": 8, "multipliers": [1, 1], "blocks": 1}
    config = GeneratorConfig.model_validate({"model": model, "process": "edm", "ema_snapshots": 8})
    state = generator_training(config, **FORM, seed=0)
    assert [average.sigma_rel for average in state.power_averages] == list(TRACKED)
    wanted = PowerEma(state.model, WIDTH)
    folder = str(tmp_path)
    for step in range(1, STEPS + 1):
        torch.nn.init.constant_(state.model.first.bias, step / STEPS)
        for average in (*state.power_averages, wanted):
            average.update(state.model, step - 1, step)
        if step % (STEPS // 8) == 0:
            state.images_seen = step
            for name, content in snapshot_files(state):
                write_bytes(f"{folder}/{name}", content)
    (tmp_path / NETWORK_FILE).write_bytes(generator_file(config, FORM, state))
    return folder, wanted


def test_autoguidance_extrapolates_from_an_early_snapshot(trained):
    folder, _ = trained
    places = [(0, 0), (1, 3)]

    def drawn(**settings: object) -> torch.Tensor:
        generator = Generator(f"{folder}/{NETWORK_FILE}")
        return generator.draw(SamplingConfig(steps=3, **settings), 0, places)

    plain = drawn(guidance_scale=0)
    assert torch.equal(drawn(guidance_method="autoguidance", guidance_scale=0), plain)
    first, second = (drawn(guidance_method="autoguidance", guidance_scale=2000, weak_snapshot=n) for n in (1, 2))
    assert not torch.equal(first, plain)
    assert not torch.equal(first, second)
    with pytest.raises(UserError, match="there are 8 snapshots, but number 9 is requested"):
        drawn(guidance_method="autoguidance", guidance_scale=2, weak_snapshot=9)
    (name,) = (file.name for file in sorted(Path(folder, "snapshots").glob(f"images_{STEPS // 8:015d}_width_0.1.*")))
    weights, _ = load_network(Path(folder, "snapshots", name).read_bytes())
    generator = Generator(f"{folder}/{NETWORK_FILE}")
    torch.testing.assert_close(generator._early(1).state_dict(), weights)


def test_a_generator_of_another_width_is_made_of_the_files(trained):
    folder, wanted = trained
    generator = Generator(f"{folder}/{NETWORK_FILE}", ema_width=WIDTH)
    for name, value in generator.network.state_dict().items():
        torch.testing.assert_close(value, wanted.model.state_dict()[name], rtol=2e-3, atol=1e-6)
    places = [(0, 0), (2, 0)]
    config = SamplingConfig(steps=2, guidance_scale=0)
    assert generator.draw(config, 0, places).shape == (2, 1, 8, 8)
    plain = Generator(f"{folder}/{NETWORK_FILE}")
    assert not torch.equal(plain.network.first.bias, generator.network.first.bias)


def test_without_snapshots_or_with_a_damaged_one_there_is_one_line(trained, tmp_path):
    with pytest.raises(UserError, match=r"there are no snapshots; train with stage2\.ema_snapshots"):
        averaged_weights(str(tmp_path / "nowhere"), WIDTH)
    broken = sorted((tmp_path / SNAPSHOT_FOLDER).iterdir())[3]
    broken.write_bytes(broken.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{broken.name}: not a network file"):
        averaged_weights(str(tmp_path), WIDTH)
