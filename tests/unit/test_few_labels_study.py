"""The comparison of heads and choices of images on digits, in small."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from encoder_folders import save_msn
from run_in_process import without_ray

from dpt_ray import __version__
from dpt_ray.cli.main import dpt
from dpt_ray.cli.running import run_command
from dpt_ray.config.shipped import find_config
from dpt_ray.errors import UserError
from dpt_ray.experiments.study.choices import CHOICES, HEADS, ONE_OF_EACH
from dpt_ray.experiments.study.few_labels import compare_few_labels
from dpt_ray.experiments.study.few_labels_job import study_few_labels
from dpt_ray.experiments.study.few_labels_tables import (
    accuracies_table,
    choices_table,
    confidence_table,
    self_training_table,
)
from dpt_ray.experiments.study.study_features import data_features, digits_features, with_unequal_classes


def test_heads_and_choices_are_compared_seed_by_seed():
    rows = compare_few_labels(
        features={"pixels": partial(digits_features, "pixels")},
        choices=CHOICES,
        heads=["logistic", "propagation"],
        per_class=[1],
        seeds=[0, 1],
        say=lambda text: None,
    )
    assert [(row.choice, row.seed) for row in rows] == [(choice, seed) for choice in CHOICES for seed in (0, 1)]
    by_class = [row for row in rows if row.choice == ONE_OF_EACH]
    assert all(row.classes == 10 for row in by_class)
    for row in by_class:
        assert row.unlabelled["propagation"] > row.unlabelled["logistic"] + 0.1
    typical = [row for row in rows if row.choice == "typical images"]
    drawn = [row for row in rows if row.choice == "any images"]
    assert min(row.test["propagation"] for row in typical) > max(row.test["propagation"] for row in drawn)
    for table in (accuracies_table(rows, "test"), accuracies_table(rows, "unlabelled"), confidence_table(rows)):
        assert len(table.splitlines()) == 2 + len(CHOICES)
    assert len(choices_table(rows, ONE_OF_EACH).splitlines()) == 2 + len(CHOICES) - 1


def test_classes_of_unequal_size_fall_by_the_same_factor():
    whole = digits_features("pixels")
    some = with_unequal_classes(whole, 8.0)
    before, after = (np.bincount(images.labels, minlength=10) for images in (whole, some))
    np.testing.assert_allclose(after / before, 8.0 ** (-np.arange(10) / 9), atol=0.01)
    assert after[0] == before[0]
    assert len(some.train) == len(some.labels) == after.sum()
    assert len(some.test) == len(some.test_labels) < len(whole.test)
    first = whole.train[torch.from_numpy(np.flatnonzero(whole.labels == 3)[: after[3]])]
    assert torch.equal(some.train[torch.from_numpy(some.labels == 3)], first)


def test_the_command_writes_figures_and_tables(tmp_path, capsys):
    words = [
        "study",
        "few-labels",
        "--per-class",
        "1",
        "--seeds",
        "0",
        "--features",
        "pixels",
        "--choices",
        ONE_OF_EACH,
    ]
    assert run_command(dpt, [*words, "--output", str(tmp_path)]) == 0
    (row,) = json.loads((tmp_path / "few_labels.json").read_text())
    assert row["version"] == __version__
    assert set(row["test"]) == set(HEADS)
    assert row["unlabelled"]["propagation"] == pytest.approx(0.85, abs=0.15)
    assert (tmp_path / "few_labels.md").read_text() in capsys.readouterr().out


def test_the_data_of_settings_have_their_encoders_features_and_true_labels(tmp_path, monkeypatch):
    without_ray(monkeypatch)
    encoder = save_msn(tmp_path / "encoder")
    given = [f"root={tmp_path}", "preset=digits", f"stage1.probe={{encoder: '{encoder}', resize: 8, crop: 8}}"]
    found = data_features(find_config("digits"), given, lambda text: None)
    plain = digits_features("pixels")
    assert found.train.shape == (len(plain.train), 16)
    assert found.test.shape == (len(plain.test), 16)
    assert found.num_classes == 10
    assert np.bincount(found.labels).tolist() == np.bincount(plain.labels).tolist()
    assert np.bincount(found.test_labels).tolist() == np.bincount(plain.test_labels).tolist()
    torch.testing.assert_close(found.train.norm(dim=1), torch.ones(len(found.train)))
    centres = torch.stack([found.train[torch.from_numpy(found.labels == label)].mean(0) for label in range(10)])
    nearest = (found.test @ torch.nn.functional.normalize(centres).T).argmax(1).numpy()
    assert (nearest == found.test_labels).mean() > 0.4  # features and labels are those of the same images


def test_the_encoder_of_stage_0_is_trained_for_a_study_and_the_study_goes_on_with_it(tmp_path, monkeypatch):
    without_ray(monkeypatch)
    small = "{model: {name: small_cnn, width: 4}, hidden: 16, projection: 16, batch: 64, images: 128}"
    probe = ["stage1.model.name=linear_probe", "stage1.probe={encoder: stage0}"]
    given = [f"root={tmp_path}", "preset=digits", f"stage0={small}", *probe]
    said: list[str] = []
    found = [data_features(find_config("digits"), given, said.append) for _ in range(2)]
    assert sum("stage 0 encoder: done" in line for line in said) == 1
    torch.testing.assert_close(found[0].test, found[1].test, rtol=0, atol=0)
    assert len(found[0].train) == len(digits_features("pixels").train)


def test_self_training_learns_the_classes_that_a_head_gives(tmp_path):
    options = {"choices": [ONE_OF_EACH], "heads": ["logistic"], "per_class": [10], "seeds": [0]}
    (row,) = compare_few_labels(
        features={"pixels": partial(digits_features, "pixels")}, self_training=True, say=lambda text: None, **options
    )
    assert row.self_trained is not None
    assert row.self_trained["logistic"] == pytest.approx(row.test["logistic"], abs=0.1)
    assert len(self_training_table([row]).splitlines()) == 3


def test_an_interrupted_study_goes_on_and_another_one_does_not_take_its_rows(tmp_path):
    options = {"choices": [ONE_OF_EACH], "heads": ["logistic"], "per_class": [1]}
    said: list[str] = []

    def stop(text: str) -> None:
        said.append(text)
        if len(said) == 2:
            raise KeyboardInterrupt

    def study(say, seeds=(0, 1, 2)):
        return study_few_labels(str(tmp_path), None, (), ("pixels",), say=say, seeds=list(seeds), **options)

    with pytest.raises(KeyboardInterrupt):
        study(stop)
    said.clear()
    rows = study(said.append)
    assert [row.seed for row in rows] == [0, 1, 2]
    assert len(said) == 2  # the first row was kept; the second was said before it was
    assert not list(tmp_path.glob("*.part.json"))
    with pytest.raises(UserError, match="give --config"):
        study_few_labels(str(tmp_path), None, ("seed=1",), ("pixels",), say=said.append, seeds=[0], **options)
