"""Exports on the hub, with the real client and a hub on a loopback port."""

import json
from pathlib import Path

import pytest
import torch
from exported_runs import write_run
from hub_server import NAME, serve_hub
from huggingface_hub import HfApi, constants

import dpt_ray
from dpt_ray.cli.main import dpt
from dpt_ray.cli.running import run_command
from dpt_ray.errors import UserError
from dpt_ray.export import hub as hub_of_exports
from dpt_ray.export.folder import belongs_to_export
from dpt_ray.pipeline.export_run import export_classifier, export_generator

IMAGES = torch.randint(256, (5, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    run, _ = write_run(tmp_path_factory.mktemp("results"))
    exports = tmp_path_factory.mktemp("exports")
    return export_classifier(run, str(exports / "cls")), export_generator(run, str(exports / "gen"))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that the client of this process talks to, with an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serve_hub() as (state, address):
        api = HfApi(endpoint=address, token="a-token")
        monkeypatch.setattr(hub_of_exports, "_api", lambda: api)
        yield state


def test_what_was_pushed_loads_as_the_folder_does_and_names_its_commit(folders, hub, capsys):
    assert run_command(dpt, ["export", "push", folders[0], NAME]) == 0
    revision = hub.newest
    assert f'dpt_ray.load("{NAME}", revision="{revision}")' in capsys.readouterr().out
    assert hub.private is True
    assert len(hub.commits) == 2  # all files in one commit
    local = Path(folders[0])
    assert hub.commits[revision] == {
        path.relative_to(local).as_posix(): path.read_bytes() for path in local.rglob("*") if path.is_file()
    }
    loaded = dpt_ray.load(NAME, device="cpu")
    assert loaded.config["hub"] == {"name": NAME, "revision": revision}
    expected = dpt_ray.load(folders[0], device="cpu")
    assert torch.equal(loaded.probabilities(IMAGES), expected.probabilities(IMAGES))
    assert "hub" not in expected.config


def test_a_revision_stays_what_it_was_after_another_push(folders, hub):
    classifier = dpt_ray.push_to_hub(folders[0], NAME, private=False)
    hub.commits[classifier]["model.onnx"] = b"of an earlier export"
    hub.commits[classifier]["notes.txt"] = b"the user's own"
    generator = dpt_ray.push_to_hub(folders[1], NAME)
    assert "model.onnx" not in hub.commits[generator]
    assert hub.commits[generator]["notes.txt"] == b"the user's own"
    assert torch.equal(dpt_ray.load(NAME, device="cpu").sample([1]), dpt_ray.load(folders[1], device="cpu").sample([1]))
    assert dpt_ray.load(NAME, revision=classifier, device="cpu").classes == ("ant", "bee", "cat")
    with pytest.raises(UserError, match=f"^{NAME}: the Hugging Face hub refuses"):
        dpt_ray.load(NAME, revision="no-such-branch")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "../config.json", "encoder/a.pt", "snapshots/a/b.safetensors"])
def test_no_file_is_fetched_that_an_export_cannot_hold(folders, hub, name):
    assert not belongs_to_export(name)
    revision = dpt_ray.push_to_hub(folders[0], NAME)
    config = json.loads(hub.commits[revision]["config.json"])
    config["files"][name] = {"bytes": 1, "sha256": "0"}
    hub.commits[revision] |= {"config.json": json.dumps(config).encode(), name: b"\x80"}
    with pytest.raises(UserError, match="which no export holds"):
        dpt_ray.load(NAME)
    assert set(hub.asked) == {"config.json"}


def test_a_damaged_export_is_not_pushed(folders, hub, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in Path(folders[0]).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "model.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match="differs from its checksum"):
        dpt_ray.push_to_hub(folder, NAME)
    with pytest.raises(UserError, match="holds no exported"):
        dpt_ray.push_to_hub(tmp_path, NAME)
    assert (len(hub.commits), hub.private) == (1, None)


def test_mistakes_are_one_line(folders, hub):
    with pytest.raises(UserError, match="is no name on the Hugging Face hub"):
        dpt_ray.push_to_hub(folders[0], "digits")
    with pytest.raises(UserError, match="a folder has no revision"):
        dpt_ray.load(folders[0], revision="v1")
    with pytest.raises(TypeError, match="revision must be text"):
        dpt_ray.load(NAME, revision=3)
    hub.commits[hub.newest]["config.json"] = b"[]"
    with pytest.raises(UserError, match="is not the configuration of an export"):
        dpt_ray.load(NAME)
