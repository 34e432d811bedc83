"""Arguments of `dpt_ray.run`, the list of runs, and what `import dpt_ray` loads."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exported_runs import write_run

import dpt_ray
from dpt_ray.config.load import load_config
from dpt_ray.errors import UserError
from dpt_ray.pipeline import notebook_runs
from dpt_ray.pipeline.finished_run import Run


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        ({"labels.per_class": 2}, "labels.per_class", 2),
        ({"labels": {"per_class": np.int64(2)}}, "labels.per_class", 2),
        ({"stage1.optimizer.learning_rate": 1e-5}, "stage1.optimizer.learning_rate", 1e-5),
        ({"name": "007"}, "name", "007"),
        ({"name": "null"}, "name", "null"),
        ({"data.class_names": ("no", "yes"), "data.num_classes": None}, "data.class_names", ["no", "yes"]),
        ({"data.train": Path("/a b"), "data.test": "/c"}, "data.train", "/a b"),
        ({"evaluation.frechet": False}, "evaluation.frechet", False),
    ],
)
def test_settings_keep_value_and_type(settings, name, value):
    found = load_config(None, ["preset=digits"], notebook_runs._overrides(settings))
    for part in name.split("."):
        found = getattr(found, part)
    assert (list(found) if isinstance(found, tuple) else found) == value


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["labels.per_class=2"], "settings must map names"),
        ({3: 2}, "the name of a setting must be text"),
        ({"labels.per_class": {1, 2}}, "labels.per_class must be text, a number"),
        ({"labels": {"per_class": object()}}, "labels.per_class must be text"),
    ],
)
def test_another_type_is_refused_before_anything_runs(settings, message):
    with pytest.raises(TypeError, match=message):
        dpt_ray.run("digits", settings)


def test_a_mistake_is_one_line(tmp_path):
    with pytest.raises(UserError, match="did you mean"):
        dpt_ray.run("digit")
    (tmp_path / "mine.yaml").write_text("root: [\n")
    with pytest.raises(UserError, match="is not valid YAML"):
        dpt_ray.run(tmp_path / "mine.yaml")


def test_runs_are_found_by_root_and_folders_without_a_run_are_passed_over(tmp_path):
    url, config = write_run(tmp_path)
    (tmp_path / "runs" / "unfinished").mkdir()
    (found,) = dpt_ray.runs(tmp_path)
    assert (found.url, found.name, found.settings) == (url, "tiny", config)
    assert dpt_ray.runs(tmp_path / "nothing") == []
    with pytest.raises(UserError, match=r"run\.json"):
        Run(str(tmp_path / "runs" / "unfinished"))


def test_the_folder_of_an_export_stays_as_long_as_the_network(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    url, _ = write_run(tmp_path)
    classifier = Run(url).classifier(device="cpu")
    assert len(list((tmp_path / "temporary").iterdir())) == 1
    del classifier
    assert list((tmp_path / "temporary").iterdir()) == []
    with pytest.raises(UserError, match="nosuch"):
        Run(url).generator(device="nosuch")
    assert list((tmp_path / "temporary").iterdir()) == []


def test_the_import_loads_no_other_package():
    code = "import sys, dpt_ray; print(sorted({'torch', 'ray', 'numpy', 'pydantic', 'click'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
