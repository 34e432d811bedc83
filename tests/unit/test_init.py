"""`dpt init`: a file of settings that means its preset, and whose comments hold what the schema says."""

import re

import pytest

from dpt_ray.cli.main import dpt
from dpt_ray.cli.running import run_command
from dpt_ray.config.load import given_settings, load_config, preset_names
from dpt_ray.config.schema import RunConfig
from dpt_ray.config.starting_file import starting_file
from dpt_ray.errors import UserError
from dpt_ray.pipeline.setting_warnings import setting_warnings

_COMMENTED_OUT = re.compile(r"^( *)# (\w+: .*)$", re.MULTILINE)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("preset", preset_names())
def test_the_file_means_its_preset_and_is_warned_of_as_the_preset_is(preset, folder):
    (folder / "my.yaml").write_text(starting_file(preset, "my.yaml"))
    data = ["data.train=train", "data.test=test"]
    config = load_config("my.yaml", data)
    assert config == load_config(None, [f"preset={preset}"], data)
    assert setting_warnings(config, *given_settings("my.yaml")) == setting_warnings(config)


def _settings_commented_out(text: str) -> list[re.Match]:
    names = {*RunConfig.model_fields, *RunConfig().data.__class__.model_fields, "fraction", "file", "seed"}
    return [found for found in _COMMENTED_OUT.finditer(text) if found[2].partition(":")[0] in names]


def test_every_setting_that_is_commented_out_shows_its_default(folder):
    text = starting_file("digits", "my.yaml")
    found = _settings_commented_out(text)
    assert {"root", "seed", "test", "class_names", "on_error", "fraction"} <= {m[2].partition(":")[0] for m in found}
    for match in found:
        (folder / "my.yaml").write_text(text[: match.start()] + match[1] + match[2] + text[match.end() :])
        assert load_config("my.yaml") == load_config(None, ["preset=digits"]), match[2]


def test_a_setting_has_its_meaning_above_it():
    lines = starting_file("digits", "my.yaml").splitlines()
    place = lines.index("  num_classes: 10")
    assert lines[place - 1] == f"  # {RunConfig().data.__class__.model_fields['num_classes'].description}"
    assert max(map(len, lines)) <= 120


def test_a_file_that_exists_is_replaced_by_force_alone(folder, capsys):
    (folder / "my.yaml").write_text("seed: 3")
    assert run_command(dpt, ["init"]) == 2
    assert capsys.readouterr().err == ("error: my.yaml: exists already; give another name, or --force to replace it\n")
    assert (folder / "my.yaml").read_text() == "seed: 3"
    assert run_command(dpt, ["init", "--force", "--preset", "cifar10"]) == 0
    assert load_config("my.yaml", ["data.train=a", "data.test=b"]).name == "cifar10"
    assert capsys.readouterr().out == "settings: my.yaml; next: dpt run --config my.yaml --dry-run\n"
    assert [file.name for file in folder.iterdir()] == ["my.yaml"]


def test_mistakes_are_one_line(folder, capsys):
    assert run_command(dpt, ["init", "--preset", "digit"]) == 2
    assert "did you mean 'digits'?" in capsys.readouterr().err
    assert run_command(dpt, ["init", "my.txt"]) == 2
    assert "end it in .yaml" in capsys.readouterr().err
    with pytest.raises(UserError, match="unknown preset"):
        starting_file("no", "my.yaml")
    assert list(folder.iterdir()) == []
