"""The comparison of heads and choices of images on digits, in small."""

import json
from functools import partial

import pytest

from dpt_ray.cli.main import dpt
from dpt_ray.cli.running import run_command
from dpt_ray.experiments.study.choices import CHOICES, HEADS, ONE_OF_EACH
from dpt_ray.experiments.study.few_labels import compare_few_labels
from dpt_ray.experiments.study.few_labels_tables import accuracies_table, choices_table, confidence_table
from dpt_ray.experiments.study.study_features import digits_features


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
    assert set(row["test"]) == set(HEADS)
    assert row["unlabelled"]["propagation"] == pytest.approx(0.85, abs=0.15)
    assert (tmp_path / "few_labels.md").read_text() in capsys.readouterr().out
