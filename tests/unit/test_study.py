"""Figures of studies over seeds, and the settings that they run."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from dpt_ray.config.load import load_config
from dpt_ray.core.semi_supervised.algorithms import algorithm_names, algorithm_settings
from dpt_ray.experiments.statistics import mean_and_deviation, paired_interval
from dpt_ray.experiments.study import algorithm_comparison as menu
from dpt_ray.experiments.study import confidence, generators
from dpt_ray.experiments.study import sampler_pictures as samplers
from dpt_ray.experiments.study import stage3_gain as mixing
from dpt_ray.experiments.study.choices import HEADS
from dpt_ray.experiments.study.curve import CurvePoint, curves_table
from dpt_ray.pipeline.execution.step import Step


def test_mean_and_deviation():
    assert mean_and_deviation([1.0, 2.0, 3.0]) == (2.0, 1.0)
    mean, deviation = mean_and_deviation([1.0])
    assert mean == 1.0
    assert math.isnan(deviation)


def test_the_paired_interval_is_students():
    # Differences 1, 2, 3: mean 2, deviation 1, and t(0.975, 2) = 4.3027.
    mean, low, high = paired_interval([0.0, 0.0, 0.0], [1.0, 2.0, 3.0])
    assert mean == pytest.approx(2)
    assert (mean - low, high - mean) == pytest.approx([4.302653 / math.sqrt(3)] * 2)
    with pytest.raises(ValueError, match="two values"):
        paired_interval([0.0], [1.0])


@pytest.mark.parametrize("name", mixing.MIXINGS)
def test_every_way_to_mix_is_a_valid_setting(name):
    plain, config = (
        dict(_leaves(load_config(None, ["preset=digits", *settings]).model_dump()))
        for settings in ((), mixing.MIXINGS[name])
    )
    changed = [setting for setting in config if config[setting] != plain.get(setting)]
    assert sorted(changed) == sorted(setting.split("=")[0] for setting in mixing.MIXINGS[name])


def _leaves(value, name=""):
    """Yield the dotted name and the value of each setting."""
    if not isinstance(value, dict):
        yield name[1:], value
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{name}.{key}")


def test_every_algorithm_runs_with_valid_settings():
    for name in algorithm_names():
        config = load_config(None, ["preset=digits", *menu._settings(name)])
        settings = algorithm_settings(config.stage1.algorithm)
        assert getattr(settings, "statistics_momentum", menu.MOMENTUM) == menu.MOMENTUM


def test_gains_are_told_by_labels_and_mixing():
    rows = [
        mixing.GainRow(1, "official", seed, 0.8, 0.8 + gain, 0.7, 0.7) for seed, gain in enumerate((0.01, 0.02, 0.03))
    ]
    table = mixing.gains_table(rows, "test").splitlines()
    assert len(table) == 3
    assert "| 80.00% ± 0.00% | 82.00% ± 1.00% | +2.00 | -0.48 to +4.48 | +1.0, +2.0, +3.0 |" in table[2]


def test_a_gain_of_one_seed_has_no_interval():
    table = mixing.gains_table([mixing.GainRow(1, "official", 0, 0.8, 0.82, 0.7, 0.7)], "test").splitlines()
    assert table[2] == "| 1 | official | 80.00% | 82.00% | +2.00 |  | +2.0 |"


def test_heads_of_a_probe_are_told_apart():
    rows = [
        mixing.GainRow(1, "official", seed, 0.8, 0.9, 0.7, 0.7, head=head)
        for head in ("logistic", "propagation")
        for seed in (0, 1)
    ]
    table = mixing.gains_table(rows, "test").splitlines()
    assert table[0].startswith("| labels a class | mixing | head | stage 1 |")
    assert [line.split(" | ")[2] for line in table[2:]] == ["logistic", "propagation"]


@pytest.mark.parametrize(("name", "settings"), HEADS.items())
def test_the_head_of_a_study_is_that_of_both_probes(name, settings):
    config = load_config("configs/digits_encoder.yaml", mixing._head_settings(name))
    for probe in (config.stage1.probe, config.stage3.probe):
        assert probe == probe.model_validate({**probe.model_dump(), **settings})
        assert probe.head == settings["head"]


def test_seeds_whose_own_test_is_significant_are_counted_each_way():
    accuracies = [(0.9, 0.001), (0.9, 0.2), (0.7, 0.01), (0.9, 0.049)]
    rows = [
        mixing.GainRow(1, "official", seed, 0.8, stage3, 0.7, 0.7, p_value)
        for seed, (stage3, p_value) in enumerate(accuracies)
    ]
    assert mixing.gains_table(rows, "test").splitlines()[2].endswith("| 2, 1 |")
    assert mixing.gains_table(rows, "unlabelled").splitlines()[2].count("|") == 8


def test_curves_have_a_table_for_each_stage_that_was_trained():
    row = CurvePoint("stage2", 3200.0, 7.4, 0.25)
    assert curves_table([row]).splitlines()[-1] == "| 3,200 | 7 | 0.25 |"
    assert len(curves_table([row, replace(row, stage="stage1")]).split("\n\n")) == 2


def test_algorithms_are_told_best_first():
    table = menu.menu_table(menu.AlgorithmAccuracies(4, (0, 1), {"a": [0.5, 0.6], "b": [0.9, 0.9]}))
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == ["| b", "| a"]


class _MadeError(Exception):
    """Ends a study where it would make steps."""


def _train_judge(config: str, root: str) -> None:
    generators._train_judge(config, root)


def _draw_pictures(config: str, root: str) -> None:
    next(samplers.sampler_pictures(config=config, root=root, seeds=[0], processes=1, say=print))


@pytest.mark.parametrize(("study", "begin"), [(generators, _train_judge), (samplers, _draw_pictures)])
def test_splits_are_compared_before_a_study_trains(study, begin, monkeypatch, tmp_path):
    wanted: list[list[Step]] = []

    def make(steps: list[Step], *_: object) -> None:
        wanted.append(steps)
        raise _MadeError

    monkeypatch.setattr(study, "make_all", make)
    with pytest.raises(_MadeError):
        begin(str(Path(__file__).parents[2] / "configs" / "digits.yaml"), str(tmp_path))
    assert wanted[0][0].name == "overlap"


def test_generators_are_compared_with_the_one_of_true_labels():
    rows = [
        generators.GeneratorRow(generators.TRUE_LABELS, 0, 2.0, 0.9),
        generators.GeneratorRow("no labels", 0, 3.0),
    ]
    assert "agreement" not in rows[1].to_json()
    table = generators.generators_table(rows).splitlines()
    assert table[2:] == [
        "| true labels | 2.000 ± nan | +0% | 90.0% | 2.000 |",
        "| no labels | 3.000 ± nan | +50% |  | 3.000 |",
    ]


def test_calibration_is_averaged_over_seeds():
    rows = [confidence.ConfidenceRow(4, seed, "balanced", value, 0.1, 0.8) for seed, value in enumerate((0.5, 0.7))]
    (line,) = confidence.confidence_table(rows).splitlines()[2:]
    assert line == "| 4 | balanced | 60.00% ± 14.14% | 80.00% ± 0.00% | 10.00% ± 0.00% |"
