"""A run from Python: the artifacts of the command, and what a notebook reads of them."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny_runs import CONFIG, TINY, artifact, described

import dpt_ray
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.evaluation import read_predicted, read_true_labels
from dpt_ray.pipeline.export_run import export_classifier, export_generator

SETTINGS = {name: int(value) for name, value in (setting.split("=") for setting in TINY)}


@pytest.fixture(scope="module")
def again(finished):
    """The finished run, by the same settings from Python."""
    return dpt_ray.run(CONFIG, {**SETTINGS, "root": finished})


def test_the_artifacts_are_those_of_the_command(finished, again, capsys):
    before = _artifacts(finished)
    assert dpt_ray.run(CONFIG, {**SETTINGS, "root": str(finished)}).metrics == again.metrics
    told = capsys.readouterr().out
    assert told.count("already made") > 10
    assert told.splitlines()[-1] == f"report: {finished}/runs/digits/report.html"
    assert _artifacts(finished) == before


def _artifacts(root) -> dict[str, str]:
    """When each file of the artifacts was changed."""
    files = stores.list_tree(str(root))
    return {file["name"]: file["changed"] for file in files if not file["name"].startswith("runs/")}


def test_a_run_gives_figures_and_report(finished, again):
    _, steps = described(finished)
    predicted, test = artifact(finished, steps.stage3_predictions), artifact(finished, steps.test_data)
    right = (read_predicted(predicted) == read_true_labels(read_index(test.url))[1]).float().mean()
    assert again.metrics.stage3_accuracy == pytest.approx(float(right))
    assert len(again.metrics.per_class.stage3_accuracy) == 10
    assert again.report in str(again)
    assert b"<html" in stores.read_bytes(again.report)
    assert again.settings.sampling.per_class == 12


def test_pseudo_labels_are_a_table_of_all_training_images(finished, again):
    table = again.pseudo_labels()
    assert table.schema.names == ["key", "label", "class", "confidence"]
    _, steps = described(finished)
    index = read_index(artifact(finished, steps.train_data).url)
    keys, true = read_true_labels(index)
    assert table["key"].to_pylist() == [key for shard in keys for key in shard]
    assert table["class"].to_pylist() == [again.classes[label] for label in table["label"].to_pylist()]
    assert isinstance(table["class"].type, pa.DictionaryType)
    assert float(np.mean(table["label"].to_numpy() == true.numpy())) > 0.3  # of ten classes


def test_pseudo_images_are_those_that_the_loaded_generator_draws(again):
    images, labels = again.pseudo_images(per_class=2)
    assert labels.tolist() == [*range(10), *range(10)]
    assert torch.equal(again.generator("cpu").sample(labels), images)
    everything = again.pseudo_images(per_class=None)
    assert everything.images.shape == (120, 1, 8, 8)
    assert torch.equal(everything.images[:20], images)
    assert len(again.pseudo_images(0).labels) == 0
    with pytest.raises(UserError, match="per_class = -1"):
        again.pseudo_images(-1)


@pytest.mark.parametrize("stage", [1, 3])
def test_networks_are_those_of_an_export(again, stage, tmp_path):
    exported = dpt_ray.load_classifier(export_classifier(again.url, str(tmp_path / "c"), stage=stage), "cpu")
    images, _ = again.pseudo_images(per_class=3)
    found = again.classifier(stage, device="cpu")
    assert torch.equal(found.probabilities(images), exported.probabilities(images))
    assert found.config["metrics"] == exported.config["metrics"]
    drawn = dpt_ray.load_generator(export_generator(again.url, str(tmp_path / "g")), "cpu").sample([3])
    assert torch.equal(again.generator("cpu").sample([3]), drawn)


def test_finished_runs_are_listed(finished, again, tmp_path):
    found = {run.url: run for run in dpt_ray.runs(finished)}
    assert len(found) >= 2  # that of the command, and `again`; other tests may have added runs
    assert (found[again.url].name, found[again.url].metrics) == ("digits", again.metrics)
    assert dpt_ray.runs(tmp_path) == []


def test_errors_are_those_of_the_command(finished, again, monkeypatch):
    with pytest.raises(UserError, match=r"stage1\.imags.*did you mean"):
        dpt_ray.run(CONFIG, {"stage1.imags": 3})
    with pytest.raises(UserError, match="no classifier of stage 2"):
        again.classifier(2)
    gone = artifact(finished, described(finished)[1].pseudo_labels)
    monkeypatch.setattr(stores, "exists", lambda url: not url.startswith(gone.url))
    with pytest.raises(UserError, match="the run's pseudo_labels is gone"):
        again.pseudo_labels()
