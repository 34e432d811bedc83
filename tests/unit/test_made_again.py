"""Which artifacts of a run the installed version would make again: by versions of steps, never by the package's."""

import pytest
from run_in_process import without_ray

import dpt_ray
from dpt_ray.cli.job import run_job
from dpt_ray.cli.main import NAME, dpt
from dpt_ray.cli.running import run_command
from dpt_ray.data.storage import stores
from dpt_ray.pipeline import made_again as made_again_module
from dpt_ray.pipeline.artifacts import store as artifact_store
from dpt_ray.pipeline.artifacts.store import ArtifactStore
from dpt_ray.pipeline.made_again import describe_made_again, made_again
from dpt_ray.pipeline.run_report import finish_run
from dpt_ray.pipeline.runs import find_run
from dpt_ray.pipeline.steps.sample_images import PseudoImages
from dpt_ray.pipeline.steps.train_generator import TrainGenerator

TINY = [
    "data.images_per_shard=1000",
    "stage1.model.width=4",
    "stage2.model.dim=16",
    "stage2.model.heads=2",
    "sampling.per_class=2",
    "sampling.steps=2",
    "name=tiny",
]


def run(root: str) -> int:
    arguments = [word for setting in [*TINY, f"root={root}"] for word in ("--set", setting)]
    return run_job("test", lambda run: run.steps(), finish_run, arguments)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> str:
    """The root of a finished run, whose networks are untrained."""
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch)
        root = str(tmp_path_factory.mktemp("results"))
        assert run(root) == 0
    return root


def found(root: str) -> dict[str, str]:
    return {one.title: one.reason for one in made_again(root, find_run(root, "tiny"))}


def test_an_upgrade_of_the_package_makes_nothing_again(root, monkeypatch, capsys):
    monkeypatch.setattr(dpt_ray, "__version__", "99.0.0")
    monkeypatch.setattr(made_again_module, "__version__", "99.0.0")
    monkeypatch.setattr(artifact_store, "version", lambda package: "99.0.0")
    assert artifact_store.software_versions()["torch"] == "99.0.0"
    assert found(root) == {}
    said = describe_made_again(root, find_run(root, "tiny"))
    assert said == "dpt_ray 99.0.0, which is installed, would make nothing of it again"
    without_ray(monkeypatch)
    assert run(root) == 0
    states = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert len(states) > 8
    assert all("already made" in line for line in states)


def test_a_raised_version_of_a_step_makes_it_and_what_builds_on_it_again(root, monkeypatch):
    version = TrainGenerator.version
    monkeypatch.setattr(TrainGenerator, "version", version + 1)
    reasons = found(root)
    assert reasons["stage 2 generator"] == f"the step has version {version + 1}, it was made by version {version}"
    assert reasons["pseudo images"] == "it builds on stage 2 generator"
    assert reasons["stage 3 classifier"] == "it builds on pseudo images"
    assert "it builds on stage 3 classifier" in reasons["stage 3 on test data"]
    assert not {"stage 1 classifier", "train data", "pseudo-labels"} & reasons.keys()
    titles = list(reasons)
    assert titles.index("stage 2 generator") < titles.index("pseudo images") < titles.index("evaluation")


def test_a_setting_that_a_step_reads_now_is_named(root, monkeypatch):
    before = PseudoImages.settings.fget
    monkeypatch.setattr(PseudoImages, "settings", property(lambda step: {**before(step), "colour": "red"}))
    assert found(root)["pseudo images"] == "colour is red, and was absent"


def test_the_command_says_it_with_the_reason(root, monkeypatch, capsys):
    monkeypatch.setattr(TrainGenerator, "version", 99)
    assert run_command(dpt, ["runs", "show", "tiny", "--root", root], NAME) == 0
    shown = capsys.readouterr().out
    assert f"dpt_ray {dpt_ray.__version__}, which is installed, would make again:" in shown
    (row,) = [line for line in shown.splitlines() if line.startswith("stage 2 generator ")]
    assert row.split()[3].startswith("generator/")
    assert "the step has version 99" in row


def test_what_cannot_be_compared_is_one_line(root, capsys):
    run = find_run(root, "tiny")
    place = stores.join(run.url, "config.yaml")
    content = stores.read_bytes(place)
    try:
        stores.write_bytes(place, b"unknown: 1\n")
        said = describe_made_again(root, run)
    finally:
        stores.write_bytes(place, content)
    assert "would make again is unknown: " in said
    assert "unknown setting 'unknown'" in said
    assert said.count("\n") == 0


def test_an_artifact_that_was_removed_is_listed(root):
    run = find_run(root, "tiny")
    address = run.artifacts["pseudo_images"]
    manifest = stores.join(ArtifactStore(root).folder(*address.split("/")), "manifest.json")
    content = stores.read_bytes(manifest)
    try:
        stores.remove_tree(manifest)
        assert found(root) == {"pseudo images": "it is not there"}
    finally:
        stores.write_bytes(manifest, content)
