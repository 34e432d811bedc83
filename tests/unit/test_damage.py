"""Files of finished artifacts that are missing or have another size: noticed when used, and made again."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.data.storage import stores
from dpt_ray.pipeline import graph
from dpt_ray.pipeline.artifacts import claims
from dpt_ray.pipeline.artifacts.damage import WITHDRAWN_FILE, find_damage
from dpt_ray.pipeline.artifacts.step_facts import Facts
from dpt_ray.pipeline.artifacts.store import MANIFEST_FILE, Artifact, ArtifactStore, read_artifact
from dpt_ray.pipeline.execution.step import Step, StepContext

UNITS = ("0", "1", "2")


@dataclass(frozen=True, kw_only=True)
class UnitsFacts(Facts):
    """The number of units."""

    units: int


class Units(Step[UnitsFacts]):
    """A step that makes the units that are not there, as batch inference does."""

    name = "units"
    facts_type = UnitsFacts
    settings = {"units": len(UNITS)}  # noqa: RUF012

    def __init__(self) -> None:
        self.made: list[str] = []
        super().__init__("units", {})

    def make(self, context: StepContext) -> UnitsFacts:
        for name in UNITS:
            if not stores.exists(context.file("part", name)):
                self.made.append(name)
                stores.write_bytes(context.file("part", name), b"x" * 10)
        return UnitsFacts(units=len(UNITS))


class Training(Units):
    """A step that looks for its network alone, and then makes nothing."""

    name = "training"

    def make(self, context: StepContext) -> UnitsFacts:
        if not stores.exists(context.file("network")):
            self.made.append("all")
            for name in ("network", "history", "snapshot"):
                stores.write_bytes(context.file(name), name.encode())
        return UnitsFacts(units=1)


@pytest.fixture
def store(tmp_path, monkeypatch) -> ArtifactStore:
    monkeypatch.setattr(claims, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(graph.connection, "connect", lambda config: None)
    return ArtifactStore(str(tmp_path))


def make(store: ArtifactStore, step: Step) -> tuple[Artifact, list[str]]:
    """Make a step; return its artifact and what was said."""
    said: list[str] = []
    return graph.make_all([step], store, ClusterConfig(), said.append)[step], said


def test_a_manifest_lists_the_files_with_their_sizes_and_nothing_that_comes_and_goes(store):
    step = Units()
    folder = store.folder(step.name, step.fingerprint)
    stores.write_bytes(f"{folder}/part/.0.abc.partial", b"half")
    stores.write_bytes(f"{folder}/checkpoints/images_1/state", b"of an overtaken training")
    artifact, _ = make(store, step)
    assert artifact.files == {"part/0": 10, "part/1": 10, "part/2": 10}
    assert not stores.exists(f"{folder}/part/.0.abc.partial")
    assert read_artifact(folder).files == artifact.files


def test_whole_artifacts_are_used(store):
    step = Units()
    artifact, _ = make(store, step)
    assert find_damage(artifact) is None
    assert make(store, step)[1] == ["[1/1] units: already made ()"]
    assert step.made == list(UNITS)


def test_a_missing_and_a_cut_file_alone_are_made_again_with_a_line(store, capsys):
    step = Units()
    artifact, _ = make(store, step)
    before = {name: Path(artifact.file("part", name)).stat().st_mtime_ns for name in UNITS}
    Path(artifact.file("part", "0")).unlink()
    Path(artifact.file("part", "2")).write_bytes(b"x" * 4)
    step.made.clear()
    again, _ = make(store, step)
    assert step.made == ["0", "2"]
    assert capsys.readouterr().out == (
        "warning: [1/1] units: is made again, since 1 of its 3 files is missing (part/0) and 1 of its 3 files has "
        f"another size (part/2) at {artifact.url}\n"
    )
    assert find_damage(again) is None
    assert again.files == artifact.files
    assert Path(artifact.file("part", "1")).stat().st_mtime_ns == before["1"]
    assert not stores.exists(again.file(WITHDRAWN_FILE))
    assert make(store, step)[1] == ["[1/1] units: already made ()"]


def test_a_step_that_does_not_look_for_its_lesser_files_makes_all_of_them_again(store):
    step = Training()
    artifact, _ = make(store, step)
    Path(artifact.file("snapshot")).unlink()
    again, _ = make(store, step)
    assert step.made == ["all", "all"]
    assert find_damage(again) is None
    assert set(again.files) == {"network", "history", "snapshot"}


def test_an_interruption_while_it_is_made_again_forgets_no_file(store, monkeypatch):
    step = Training()
    artifact, _ = make(store, step)
    Path(artifact.file("history")).unlink()

    def interrupt(context: StepContext) -> UnitsFacts:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(step, "make", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make(store, step)
    assert store.find(step.name, step.fingerprint) is None
    again, _ = make(store, step)
    assert set(again.files) == {"network", "history", "snapshot"}


def test_a_manifest_of_an_older_version_is_used_unchecked(store):
    step = Units()
    artifact, _ = make(store, step)
    manifest = {name: value for name, value in artifact.manifest.items() if name != "files"}
    Path(artifact.file(MANIFEST_FILE)).write_text(json.dumps(manifest))
    Path(artifact.file("part", "0")).unlink()
    assert make(store, step)[1] == ["[1/1] units: already made ()"]
