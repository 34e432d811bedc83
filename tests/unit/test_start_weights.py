"""A training starts with given weights: from a run, a training, an export or a file. What does not fit is refused."""

import json
import pickle
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from exported_runs import write_run
from run_in_process import without_ray
from settings_reads import train_here
from test_job_start import sets, start

from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.config.load import load_config
from dpt_ray.config.schema import RunConfig
from dpt_ray.core.training.from_settings import classifier_training, generator_training
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.weights import load_network
from dpt_ray.errors import UserError
from dpt_ray.networks.classifier import classifier_file
from dpt_ray.networks.generator import generator_file
from dpt_ray.networks.start_weights import start_from
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.export_run import export_classifier, export_generator
from dpt_ray.pipeline.graph import make_all

TINY = [
    "preset=digits",
    "data.images_per_shard=1000",
    "stage1.model.width=4",
    "stage1.images=160",
    "stage2.model.dim=16",
    "stage2.model.heads=2",
    "stage2.images=64",
]
FORM = {"image_size": 8, "channels": 1}


def config_of(*settings: str) -> RunConfig:
    return load_config(None, TINY, settings)


def classifier(*settings: str, classes: int = 10, channels: int = 1, seed: int = 1) -> bytes:
    stage = config_of(*settings).stage1
    state = classifier_training(stage, channels=channels, num_classes=classes, seed=seed)
    return classifier_file(stage.model, channels, classes, state)


def generator(*settings: str, classes: int = 10, size: int = 8, channels: int = 1, seed: int = 1) -> bytes:
    stage = config_of(*settings).stage2
    form = {"image_size": size, "channels": channels, "num_classes": classes}
    state = generator_training(stage, **form, seed=seed)
    for parameter in state.ema.model.parameters():  # the output layers start at zero
        torch.nn.init.normal_(parameter)
    return generator_file(stage, form, state)


def address(*settings: str, step: str = "generator") -> str:
    return getattr(build(config_of(*settings)), step).address


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A function that writes a file in the working directory, and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, content: bytes) -> str:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
        return name

    return write


def networks(state: TrainState) -> list[torch.nn.Module]:
    return [state.model, state.ema.model, *(average.model for average in state.power_averages)]


def test_network_and_averages_start_with_the_weights(place):
    content = generator()
    url = place("g.safetensors", content)
    config = config_of("stage2.ema_snapshots=2").stage2
    state = start_from(url, None, partial(generator_training, config, **FORM, num_classes=10, seed=0))
    assert len(networks(state)) == 4
    weights, _ = load_network(content)
    for network in networks(state):
        held = network.state_dict()
        assert held.keys() == weights.keys()
        assert all(held[name].equal(value) for name, value in weights.items())


@pytest.mark.parametrize(
    ("content", "fresh"),
    [(generator(classes=3), {"label_embedding.weight"}), (classifier(classes=3), {"head.weight", "head.bias"})],
)
def test_weights_of_other_classes_stay_random_and_all_others_start(place, content, fresh):
    url = place("n.safetensors", content)
    weights, description = load_network(content)
    config = config_of()
    build = (
        partial(generator_training, config.stage2, **FORM)
        if description["kind"] == "generator"
        else partial(classifier_training, config.stage1, channels=1)
    )
    plain, started = (make().model.state_dict() for make in (
        partial(build, num_classes=10, seed=0), partial(start_from, url, None, partial(build, num_classes=10, seed=0))
    ))  # fmt: skip
    assert {name for name in weights if weights[name].shape != plain[name].shape} == fresh
    for name, value in started.items():
        assert value.equal(plain[name] if name in fresh else weights[name])


def test_the_address_follows_from_the_weights_and_not_from_their_place(place):
    content, other = generator(), generator(seed=2)
    one = address(f"stage2.from={place('a/g.safetensors', content)}")
    assert one == address(f"stage2.from={place('b.safetensors', content)}")
    assert len({one, address(f"stage2.from={place('c', other)}"), address()}) == 3
    given = f"stage1.from={place('d', classifier())}"
    assert address(given, step="classifier") != address(step="classifier")
    assert address(given, step="retrained") != address(step="retrained")
    assert address(f"stage3.from={place('d', classifier())}", step="classifier") == address(step="classifier")


def test_without_the_setting_no_address_holds_it():
    run = build(config_of())
    for step in (run.classifier, run.retrained, run.generator):
        assert "from" not in json.dumps(list(step.settings)) + json.dumps(list(step.settings["training"]))


def test_a_run_a_training_an_export_and_a_file_give_the_same(place, tmp_path):
    run, _ = write_run(tmp_path)
    places = {
        "generator": [run, f"{tmp_path}/generator/g", export_generator(run, str(tmp_path / "export-g"))],
        "retrained": [run, f"{tmp_path}/classifier/c1", export_classifier(run, str(tmp_path / "export-c"))],
    }
    for step, stage, file in (("generator", "stage2", "generator/g"), ("retrained", "stage1", "classifier/c1")):
        found = {address(f"{stage}.from={given}", step=step) for given in places[step]}
        assert found == {address(f"{stage}.from={tmp_path}/{file}/network.safetensors", step=step)}
        assert address(step=step) not in found


@pytest.fixture
def train(tmp_path):
    """A function that trains a stage with settings, and returns its artifact."""
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch)
        train_here(patch)

        def make(step: str, *settings: str) -> Artifact:
            config = config_of(f"root={tmp_path}/results", *settings)
            found = getattr(build(config), step)
            return make_all([found], ArtifactStore(config.root), config.cluster, print)[found]

        yield make


def distance(artifact: Artifact, content: bytes) -> float:
    """The mean square distance of an artifact's weights from those in a file, for tensors of equal shape."""
    (held, _), (given, _) = load_network(Path(artifact.file("network.safetensors")).read_bytes()), load_network(content)
    pairs = [(held[name], value) for name, value in given.items() if value.is_floating_point()]
    return sum(float((a - b).square().mean()) for a, b in pairs if a.shape == b.shape)


@pytest.mark.parametrize(("step", "stage", "make"), [("classifier", "stage1", classifier),
                                                     ("generator", "stage2", generator)])  # fmt: skip
def test_a_training_goes_on_from_the_weights(train, place, capsys, step, stage, make):
    content = make(classes=4)
    still = [f"{stage}.optimizer.learning_rate=1e-7", f"{stage}.optimizer.weight_decay=0"]
    given = f"{stage}.from={place('n.safetensors', content)}"
    started, plain = train(step, *still, given), train(step, *still)
    assert distance(started, content) < 1e-3 * distance(plain, content)
    (told,) = [line for line in capsys.readouterr().out.splitlines() if "knows 4 classes" in line]
    assert "n.safetensors knows 4 classes, the data have 10: the weights that belong to classes start from" in told


def test_weights_that_change_under_a_job_are_refused(train, place, tmp_path):
    given = place("g.safetensors", generator())
    config = config_of(f"root={tmp_path}/results", f"stage2.from={given}")
    step = build(config).generator
    place("g.safetensors", generator(seed=2))
    with pytest.raises(UserError, match="has changed since the job read it"):
        make_all([step], ArtifactStore(config.root), config.cluster, print)
    assert not Path(config.root, step.address, "network.safetensors").exists()


LATENT = {"location": "x", "autoencoder": "0" * 64, "precision": "float32", "scale": 1.0, "shift": 0.0}


def described(content: bytes, **changes: object) -> bytes:
    """A network's file with another description."""
    from safetensors.torch import save

    weights, description = load_network(content)
    return save(weights, {"description": json.dumps({**description, **changes})})


BAD = {
    "missing": ("stage2", None, "does not exist"),
    "of a classifier": ("stage2", classifier(), "holds a classifier, not a generator"),
    "of a generator": ("stage1", generator(), "holds a generator, not a classifier"),
    "pickle": ("stage1", pickle.dumps({"a": 1}), "is a pickle (a torch file), which is not loaded"),
    "zip": ("stage2", b"PK\x03\x04rest", "is a pickle (a torch file), which is not loaded; 'dpt export import-uvit'"),
    "text": ("stage2", b"weights", "not a network file"),
    "cut": ("stage2", generator()[:-7], "not a network file"),
    "channels": ("stage1", classifier(channels=3), "has data.channels 3 and not 1"),
    "width": ("stage1", classifier("stage1.model.width=8"), "has stage1.model.width 8 and not 4"),
    "mean": ("stage1", classifier("stage1.model.mean=[0.25]"), "has stage1.model.mean [0.25] and not [0.5]"),
    "network": ("stage1", classifier("stage1.model={name: wide_resnet, depth: 10, width: 1}"),
                "has stage1.model.name wide_resnet and not small_cnn"),
    "size": ("stage2", generator(size=16), "has side of images 16 and not 8"),
    "channels of images": ("stage2", generator(channels=3), "has channels of images 3 and not 1"),
    "heads": ("stage2", generator("stage2.model.heads=4"), "has stage2.model.heads 4 and not 2"),
    "process": ("stage2", generator("stage2.process=flow_matching"), "has stage2.process flow_matching and not edm"),
    "confidence": ("stage2", generator("stage2.conditioning.confidence=true"), "other weights than the stage's"),
    "latents": ("stage2", described(generator(), latents=LATENT), "was trained on latents, not on pixels"),
    "classes": ("stage2", described(generator(), num_classes=0), "does not say how many classes"),
    "other classes": ("stage2", described(generator(), num_classes=12), "with label_embedding.weight of shape"),
    "plug-in": ("stage1", described(classifier(), model={"name": "gone"}), "does not describe its network"),
    "form": ("stage2", described(generator(), config=3), "does not describe its network"),
}  # fmt: skip


@pytest.mark.parametrize("dry", [["--dry-run"], []])
@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_one_line_before_anything_is_written(place, tmp_path, capsys, name, dry):
    stage, content, expected = BAD[name]
    given = place("given.safetensors", content) if content is not None else "given.safetensors"
    status = start(*sets(*TINY, f"{stage}.from={given}", "root=results"), *dry)
    error = capsys.readouterr().err
    assert (status, error.count("\n")) == (2, 1)
    assert f"error: {tmp_path}/given.safetensors: " in error
    assert expected in error
    assert not (tmp_path / "results").exists()


def test_a_folder_without_a_network_and_a_training_of_another_kind_are_refused(place, tmp_path):
    run, _ = write_run(tmp_path)
    (tmp_path / "empty").mkdir()
    place("images/0.png", b"x")
    with pytest.raises(UserError, match="is a folder without a trained network"):
        address("stage2.from=images")
    with pytest.raises(UserError, match="cannot be read"):
        address("stage2.from=empty")
    with pytest.raises(UserError, match="holds a classifier, not a generator"):
        address(f"stage2.from={tmp_path}/classifier/c0")
    shutil.rmtree(tmp_path / "generator")
    with pytest.raises(UserError, match=r"generator/g/network\.safetensors: does not exist"):
        address(f"stage2.from={run}")


def test_two_weights_for_stage_3_are_refused(place):
    one, two = place("a", classifier()), place("b", classifier(seed=2))
    mixed = "stage3.mixing.from_stage1=true"
    with pytest.raises(UserError, match=r"from_stage1 and stage3\.from each give the weights"):
        address(f"stage3.from={two}", mixed)
    inherited = build(config_of(f"stage1.from={one}", mixed))
    assert "from" not in inherited.retrained.settings
    assert inherited.retrained.parents["start"] is inherited.classifier


def test_a_file_says_nothing_of_the_weights_it_began_with(place):
    config = config_of(f"stage2.from={place('g', generator())}").stage2
    state = generator_training(config, **FORM, num_classes=10, seed=0)
    _, description = load_network(generator_file(config, {**FORM, "num_classes": 10}, state))
    assert "from" not in description["config"]
    assert GeneratorConfig.model_validate(description["config"]).start is None
