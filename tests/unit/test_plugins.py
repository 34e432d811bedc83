"""Plug-ins from outside the package: found by name, part of addresses, refused in one line."""

import json

import pytest
import torch
from plugin_packages import describe, install_toy

import dpt_ray
from dpt_ray import plugins
from dpt_ray.config.load import dump_yaml, load_config, parse_dumped
from dpt_ray.config.schema import RunConfig
from dpt_ray.core.diffusion.grids import log_snr_sigmas
from dpt_ray.core.diffusion.samplers import SAMPLERS, Sampler, num_evaluations, sample, sample_euler
from dpt_ray.errors import UserError
from dpt_ray.pipeline.dpt import build


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch):
    monkeypatch.setattr(plugins, "_registered", {})


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The toy plug-ins, installed outside the package."""
    monkeypatch.syspath_prepend(install_toy(tmp_path / "site"))


@pytest.fixture
def bring(tmp_path, monkeypatch):
    """Installs a distribution that brings one plug-in."""

    def install(group: str, name: str, value: str, distribution: str = "other") -> None:
        monkeypatch.syspath_prepend(describe(tmp_path / distribution, distribution, "2.0", {group: {name: value}}))

    return install


def config(*settings: str) -> RunConfig:
    return load_config(None, ["preset=digits", *settings])


def complaint(*settings: str) -> str:
    with pytest.raises(UserError) as caught:
        build(config(*settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def denoise(x, sigma, label):
    return x / (1 + sigma[:, None, None, None] ** 2)


def test_an_installed_sampler_draws_what_its_formula_says(toy):
    assert config("sampling.sampler=ddim").sampling.sampler == "ddim"
    noise, labels = torch.randn(2, 1, 4, 4), torch.tensor([0, 1])
    drawn = sample("ddim", denoise, noise, labels, 5, 0.01, 80.0)
    assert torch.allclose(drawn, sample_euler(denoise, noise, labels, log_snr_sigmas(5, 0.01, 80.0)), atol=1e-5)
    assert num_evaluations("ddim", 5) == 5


def test_the_address_holds_the_distribution_and_its_version(tmp_path, monkeypatch):
    def settings(version: str) -> dict:
        with monkeypatch.context() as patch:
            patch.syspath_prepend(install_toy(tmp_path / version, version))
            return build(config("sampling.sampler=ddim")).pseudo_images.settings

    first, second = settings("1.0"), settings("1.1")
    assert (first["plugin"], second["plugin"]) == ("dpt-toy 1.0", "dpt-toy 1.1")
    assert first["sampler"] == "ddim"


def test_addresses_without_plug_ins_do_not_depend_on_what_is_installed(tmp_path, monkeypatch):
    before = [step.address for step in build(config()).steps()]
    monkeypatch.syspath_prepend(install_toy(tmp_path))
    assert [step.address for step in build(config()).steps()] == before


def test_stored_settings_with_a_plug_in_are_read_back(toy):
    chosen = config("sampling.sampler=ddim")
    assert parse_dumped(dump_yaml(chosen).encode(), "run") == chosen


def test_an_unknown_name_is_answered_with_built_ins_and_plug_ins(toy):
    told = complaint("sampling.sampler=dimm")
    assert "sampling.sampler = 'dimm' is not allowed" in told
    assert "'heun'" in told
    assert told.endswith("or a plug-in: 'ddim'")


def test_an_unknown_name_is_answered_with_built_ins_alone_where_nothing_is_installed():
    assert complaint("sampling.sampler=dimm").endswith("'dpm_solver_fast' or 'dpm_solver_pp_fast'")


def test_a_name_of_a_built_in_is_refused(bring):
    bring("dpt_ray.samplers", "heun", "nowhere:X")
    told = complaint("sampling.sampler=heun")
    assert "the plug-in 'heun' of other 2.0 (dpt_ray.samplers) has the name of a built-in" in told
    assert config("sampling.sampler=euler").sampling.sampler == "euler"


def test_a_name_that_two_distributions_bring_is_refused(toy, bring):
    bring("dpt_ray.samplers", "ddim", "nowhere:X")
    told = complaint("sampling.sampler=ddim")
    assert "dpt-toy 1.0" in told
    assert "other 2.0" in told


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("nowhere_at_all:X", "cannot be imported (ModuleNotFoundError: No module named 'nowhere_at_all')"),
        ("json:nothing", "cannot be imported (AttributeError"),
        ("json:dumps", "is no instance of dpt_ray.core.diffusion.samplers.Sampler"),
    ],
)
def test_a_plug_in_that_cannot_be_used_is_named(bring, value, expected):
    bring("dpt_ray.samplers", "broken", value)
    told = complaint("sampling.sampler=broken")
    assert told.startswith("the plug-in 'broken' of other 2.0 (dpt_ray.samplers)")
    assert expected in told


def test_a_sampler_that_needs_times_is_refused_where_there_are_none():
    dpt_ray.register_plugin("samplers", "timed", Sampler(sample_euler, None), version="1")
    assert config("sampling.sampler=timed")
    assert "sampling.sampler=timed steps uniformly in time" in complaint("sampling.sampler=timed", "stage2.process=edm")


def test_a_registered_plug_in_is_found_and_part_of_the_address():
    dpt_ray.register_plugin("samplers", "mine", SAMPLERS["euler"], version="1")
    assert build(config("sampling.sampler=mine")).pseudo_images.settings["plugin"] == "registered 1"
    dpt_ray.register_plugin("samplers", "mine", SAMPLERS["heun"], version="2")
    assert num_evaluations("mine", 3) == num_evaluations("heun", 3)


def test_a_registered_name_must_be_free(toy):
    for group, name in (("samplers", "heun"), ("algorithms", "fixmatch")):
        with pytest.raises(UserError, match="has the name of a built-in"):
            dpt_ray.register_plugin(group, name, None, version="1")
    with pytest.raises(UserError, match=r"has the name of the plug-in 'ddim' of dpt-toy 1\.0"):
        dpt_ray.register_plugin("samplers", "ddim", None, version="1")
    with pytest.raises(UserError, match="unknown group of plug-ins 'sampler'"):
        dpt_ray.register_plugin("sampler", "mine", None, version="1")


def test_the_schema_lists_built_ins():
    choices = RunConfig.model_json_schema()["$defs"]["SamplingConfig"]["properties"]["sampler"]["enum"]
    assert choices == list(SAMPLERS)
    json.dumps(RunConfig.model_json_schema())
