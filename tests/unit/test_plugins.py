"""Plug-ins from outside the package: found by name, part of addresses, refused in one line."""

import importlib
import json
import sys

import numpy as np
import pytest
import torch
from importing_data import shards_of
from made_up_search import tune_config
from plugin_packages import describe, install_toy

import dpt_ray
from dpt_ray import plugins
from dpt_ray.capacity.run_size import size_run
from dpt_ray.capacity.sizes import DataSize
from dpt_ray.config.classifier_section import ClassifierModelConfig
from dpt_ray.config.load import dump_yaml, load_config, parse_dumped
from dpt_ray.config.schema import RunConfig
from dpt_ray.config.section import Count
from dpt_ray.core.diffusion.grids import log_snr_sigmas
from dpt_ray.core.diffusion.samplers import SAMPLERS, Sampler, num_evaluations, sample, sample_euler
from dpt_ray.core.models.network_settings import build_classifier
from dpt_ray.core.semi_supervised.algorithm import Task, Views
from dpt_ray.core.semi_supervised.algorithms import algorithm_class, algorithm_settings
from dpt_ray.core.training.from_settings import classifier_training, generator_training
from dpt_ray.data.images.decoding import ImageForm, decode_image
from dpt_ray.data.importing import detect
from dpt_ray.errors import UserError
from dpt_ray.experiments.search.space import Trials, listed_points
from dpt_ray.networks.classifier import Classifier, classifier_file
from dpt_ray.networks.generator import Generator, generator_file
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.steps.import_shards import ImportedShards


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch):
    monkeypatch.setattr(plugins, "_registered", {})


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The toy plug-ins, installed outside the package."""
    for module in [name for name in sys.modules if name.partition(".")[0] == "dpt_toy"]:
        monkeypatch.delitem(sys.modules, module)
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
    assert (first["plug-in"], second["plug-in"]) == ("dpt-toy 1.0", "dpt-toy 1.1")
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


TOY_NETWORKS = ["stage1.model={name: plain_cnn, hidden: 4}", "stage2.model={name: tiny_unet, hidden: 6}"]


def test_an_installed_network_has_settings_of_its_own(toy):
    chosen = config(*TOY_NETWORKS)
    assert (chosen.stage1.model.hidden, chosen.stage2.model.hidden) == (4, 6)
    assert chosen.stage3.model == chosen.stage1.model
    assert parse_dumped(dump_yaml(chosen).encode(), "run") == chosen
    assert "unknown setting 'stage1.model.hiden'" in complaint("stage1.model={name: plain_cnn, hiden: 4}")
    told = complaint("stage1.model={name: plain_cnn, hidden: 0}")
    assert "stage1.model.hidden = 0 is not allowed: input should be greater than or equal to 1" in told
    assert "unknown setting 'stage1.model.hidden'" in complaint("stage1.model.hidden=4")


def test_a_search_tries_settings_of_an_installed_network(toy):
    def trials(setting: str) -> list[RunConfig]:
        tune = tune_config({setting: {"grid": [4, 6]}}, settings={"stage1.model": {"name": "plain_cnn"}})
        return [Trials(tune, []).config(point) for point in listed_points(tune)]

    assert [trial.stage1.model.hidden for trial in trials("stage1.model.hidden")] == [4, 6]
    with pytest.raises(UserError) as caught:
        trials("stage1.model.hiden")
    assert "unknown setting 'stage1.model.hiden'" in str(caught.value)


def test_another_network_drops_the_settings_of_a_plug_in(toy):
    chosen = config(*TOY_NETWORKS, "stage3.model.name=wide_resnet", "stage3.model.depth=10")
    assert chosen.stage3.model.model_dump() == {
        **config().stage3.model.model_dump(),
        "name": "wide_resnet",
        "depth": 10,
    }


def test_the_address_holds_what_a_network_of_a_plug_in_reads(toy):
    run = build(config(*TOY_NETWORKS))
    of_classifier = {"name": "plain_cnn", "hidden": 4, "mean": [0.5], "std": [0.5], "plug-in": "dpt-toy 1.0"}
    assert run.classifier.settings["training"]["model"] == of_classifier
    assert run.generator.settings["training"]["model"] == {"name": "tiny_unet", "hidden": 6, "plug-in": "dpt-toy 1.0"}
    assert run.classifier.settings["training"]["images"] == config().stage1.images


def test_a_network_is_stored_and_loaded(toy, tmp_path):
    chosen = config(*TOY_NETWORKS)
    state = classifier_training(chosen.stage1, channels=1, num_classes=3, seed=0)
    (tmp_path / "classifier").write_bytes(classifier_file(chosen.stage1.model, 1, 3, state))
    probabilities, features = Classifier(str(tmp_path / "classifier"))(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    assert (probabilities.shape, features.shape) == ((2, 3), (2, 4))
    form = {"image_size": 8, "channels": 1, "num_classes": 3}
    state = generator_training(chosen.stage2, **form, seed=0)
    (tmp_path / "generator").write_bytes(generator_file(chosen.stage2, form, state))
    images = Generator(str(tmp_path / "generator")).draw(chosen.sampling, 0, [(0, 0), (2, 1)])
    assert images.shape == (2, 1, 8, 8)


def test_a_run_with_installed_networks_has_a_size(toy):
    sized, usual = (size_run(config(*given), DataSize(100, 200, 64, 100, 10)) for given in (TOY_NETWORKS, ()))
    assert [stage.id for stage in sized.stages] == [stage.id for stage in usual.stages]
    assert all(stage.gpu_hours > 0 for stage in sized.stages)


def test_a_stored_network_without_its_plug_in_is_one_line(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.syspath_prepend(install_toy(tmp_path))
        chosen = config(*TOY_NETWORKS)
        state = classifier_training(chosen.stage1, channels=1, num_classes=3, seed=0)
        (tmp_path / "network").write_bytes(classifier_file(chosen.stage1.model, 1, 3, state))
    with pytest.raises(UserError, match=r"does not fit its own description .*name") as caught:
        Classifier(str(tmp_path / "network"))
    assert "\n" not in str(caught.value)


def test_a_network_refuses_what_it_cannot_do_in_one_line(toy):
    assert "2 must divide data.image_size, not 9" in complaint(*TOY_NETWORKS, "data.image_size=9")
    chosen = config(*TOY_NETWORKS, "stage2.conditioning.confidence=true")
    with pytest.raises(UserError, match=r"'tiny_unet' cannot build its network \(it takes no confidence"):
        generator_training(chosen.stage2, image_size=8, channels=1, num_classes=3, seed=0)


def test_a_network_of_the_other_kind_is_refused(toy):
    assert "'tiny_unet' of dpt-toy 1.0 (dpt_ray.networks) is no subclass of" in complaint("stage1.model.name=tiny_unet")


def test_a_dropout_that_a_network_does_not_read_does_not_reach_it(toy):
    chosen = config("stage2.model={name: tiny_unet, dropout: 0.1}")
    assert not generator_training(chosen.stage2, image_size=8, channels=1, num_classes=3, seed=0).objective.dropout


class OtherDefault(ClassifierModelConfig):
    width: Count = 7


class Unbuildable(ClassifierModelConfig):
    pass


class WrongNetwork(ClassifierModelConfig):
    def build(self, **form):
        return torch.nn.Identity()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (OtherDefault, "'mine' changes the default of width, which would have no effect"),
        (Unbuildable, "'mine' has no method `build`"),
        (WrongNetwork, "'mine' is no dpt_ray.core.models.base_networks.ClassifierNetwork"),
    ],
)
def test_a_network_that_cannot_be_used_is_named(settings, expected):
    dpt_ray.register_plugin("networks", "mine", settings, version="1")
    with pytest.raises(UserError) as caught:
        build_classifier(config("stage1.model.name=mine").stage1.model, channels=1, num_classes=3)
    assert expected in str(caught.value)


def write_npz(path, seed: int, images: int = 7) -> str:
    draw = np.random.default_rng(seed)
    np.savez(path, images=draw.integers(0, 256, (images, 8, 8, 1), np.uint8), labels=np.arange(images) % 3)
    return str(path)


def test_an_installed_format_is_read(toy, tmp_path):
    train, test = write_npz(tmp_path / "a.npz", 0), write_npz(tmp_path / "b.npz", 1)
    data = config("data.format=npz", f"data.train={train}", f"data.test={test}").data
    images = detect.describe("train", data)
    shards, skipped = shards_of(images)
    assert ([len(shard) for shard in shards], skipped) == ([3, 3, 1], [])
    stored = {sample.key: sample for shard in shards for sample in shard}
    assert [stored[key].label("shard") for key in sorted(stored)] == [0, 1, 2, 0, 1, 2, 0]
    pixels = decode_image(stored["000004"].files["png"], ImageForm(8, 1), "shard")
    assert np.array_equal(pixels, np.load(train)["images"][4].transpose(2, 0, 1))
    settings = ImportedShards("train", data, images).settings
    assert (settings["source"], settings["plug-in"]) == ("npz", "dpt-toy 1.0")


def test_a_place_that_an_installed_format_refuses_is_one_line(toy, tmp_path):
    told = complaint("data.format=npz", f"data.train={tmp_path}", "data.test=b.npz")
    assert told == f"{tmp_path}: is no file *.npz; give the URL of one"


def test_a_format_whose_images_have_another_kind_is_named(toy, tmp_path):
    dpt_ray.register_plugin("formats", "mine", importlib.import_module("dpt_toy.npz").NPZ, version="1")
    told = complaint("data.format=mine", f"data.train={write_npz(tmp_path / 'a.npz', 0)}", "data.test=b.npz")
    assert "the plug-in 'mine' describes images of the kind 'npz'" in told


def test_an_installed_algorithm_teaches(toy):
    chosen = config("stage1.algorithm={name: soft_labels, threshold: 0.7}")
    algorithm = algorithm_class("soft_labels")(algorithm_settings(chosen.stage1.algorithm), Task(2, 2, 1))
    weak = torch.tensor([[0.9, 0.1], [0.4, 0.6]])
    targets = algorithm.compute_targets(Views(labelled=weak, weak=weak, index=torch.arange(2)))
    assert targets.weight.tolist() == [1, 0]
    assert torch.equal(targets.target, weak)
    described = build(chosen).classifier.settings["training"]["algorithm"]
    own = {"threshold": 0.7, "unlabelled_weight": 1.0}
    assert described == {"name": "soft_labels", "plug-in": "dpt-toy 1.0", **own}


def test_mistakes_in_an_installed_algorithms_settings_are_one_line(toy, bring):
    assert "did you mean 'soft_labels'?" in complaint("stage1.algorithm.name=soft_label")
    assert "did you mean 'threshold'?" in complaint("stage1.algorithm={name: soft_labels, treshold: 0.5}")
    bring("dpt_ray.algorithms", "fixmatch", "nowhere:X")
    assert "has the name of a built-in" in complaint("stage1.algorithm.name=fixmatch")


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
    assert build(config("sampling.sampler=mine")).pseudo_images.settings["plug-in"] == "registered 1"
    dpt_ray.register_plugin("samplers", "mine", SAMPLERS["heun"], version="2")
    assert num_evaluations("mine", 3) == num_evaluations("heun", 3)


def test_a_registered_name_must_be_free(toy):
    for group, name in (
        ("samplers", "heun"),
        ("networks", "uvit"),
        ("formats", "digits"),
        ("formats", "csv"),
        ("algorithms", "fixmatch"),
    ):
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
