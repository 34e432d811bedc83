"""What a search found: means over seeds, the best point, and what was shared."""

import math
import re

import pytest
from search_trials import MadeUpStore, finished, made_up_trial

from dpt_ray.experiments.search.records import Record
from dpt_ray.experiments.search.summary import best_first, costs_of, points_of, standard_error
from dpt_ray.report.content import Figure
from dpt_ray.report.search_content import Ending, SearchReport, short_names
from dpt_ray.report.search_figures import setting_panels
from dpt_ray.report.search_page import format_spread, render_search


def _trials(scores: dict[tuple[float, int], float | str], **more: float):
    trials = []
    for (value, seed), score in scores.items():
        trial = made_up_trial({"sampling.guidance_scale": value}, seed, ("data", f"stage 1, seed {seed}"))
        if isinstance(score, str):
            trials.append((trial, Record(trial.point, seed, score, f"because it {score}")))
        else:
            trials.append((trial, finished(trial, score, **more)))
    return trials


def test_figures_are_means_and_deviations_over_seeds():
    (point,) = points_of(_trials({(0.4, 0): 0.8, (0.4, 1): 0.9}))
    spread = point.figures["stage3_accuracy"]
    assert (spread.mean, spread.count) == (pytest.approx(0.85), 2)
    assert spread.deviation == pytest.approx(0.1 / math.sqrt(2))
    assert point.figures["gain"].mean == pytest.approx(0.35)
    assert "frechet_distance" not in point.figures
    assert (point.finished, point.of) == (2, 2)


def test_the_best_point_has_the_best_mean_and_all_seeds():
    points = points_of(
        _trials({(0.0, 0): 0.7, (0.0, 1): 0.8, (0.4, 0): 0.9, (0.4, 1): 0.8, (0.8, 0): 0.99, (0.8, 1): "failed"})
    )
    ranked = best_first(points, "stage3_accuracy")
    assert [point.point["sampling.guidance_scale"] for point in ranked] == [0.4, 0.0, 0.8]
    assert (ranked[-1].finished, ranked[-1].failed) == (1, 1)


def test_less_is_better_for_a_distance():
    near, far = _trials({(0.0, 0): 0.5}, frechet_distance=1.0), _trials({(0.4, 0): 0.9}, frechet_distance=2.0)
    ranked = best_first(points_of([*far, *near]), "frechet_distance")
    assert [point.point["sampling.guidance_scale"] for point in ranked] == [0.0, 0.4]


def test_what_is_shared_is_counted_once():
    store = MadeUpStore(**{"data": 10.0, "stage 1, seed 0": 100.0, "stage 1, seed 1": 140.0})
    scores = {(value, seed): 0.5 for value in (0.0, 0.4, 0.8) for seed in (0, 1)}
    costs = costs_of(_trials({**scores, (1.6, 0): "stopped"}), store)
    data = next(sharing for sharing in costs.sharing if sharing.title == "data")
    assert (data.used, data.made, data.seconds, data.saved) == (6, 1, 10.0, 50.0)
    evaluations = 6.0  # a second each
    assert costs.together == pytest.approx(10 + 240 + evaluations)
    assert costs.alone == pytest.approx(6 * 10 + 3 * 240 + evaluations)


def test_settings_are_called_by_as_many_parts_as_it_takes():
    assert short_names(
        ["sampling.guidance_scale", "stage2.optimizer.learning_rate", "stage3.optimizer.learning_rate"]
    ) == {
        "sampling.guidance_scale": "guidance_scale",
        "stage2.optimizer.learning_rate": "stage2.optimizer.learning_rate",
        "stage3.optimizer.learning_rate": "stage3.optimizer.learning_rate",
    }
    assert short_names(["stage1.images", "stage1.model.width", "labels.images"])["labels.images"] == "labels.images"


def test_the_standard_error_is_the_binomial_one():
    assert standard_error(0.5, 100) == pytest.approx(0.05)
    assert standard_error(1.0, 100) == 0


def test_spreads_are_told_as_people_read_them():
    (point,) = points_of(_trials({(0.4, 0): 0.8, (0.4, 1): 0.9}, frechet_distance=0.7))
    assert format_spread("stage3_accuracy", point.figures["stage3_accuracy"]) == "85.0% ± 7.1"
    assert format_spread("gain", point.figures["gain"]) == "+35.0 ± 7.1"
    (single,) = points_of(_trials({(0.4, 0): 0.8}))
    assert format_spread("stage3_accuracy", single.figures["stage3_accuracy"]) == "80.0%"


def _report(trials, **more) -> SearchReport:
    points = best_first(points_of(trials), "stage3_accuracy")
    return SearchReport(
        "Search: <b>", "2026-01-02T03:04:05+00:00", [Figure("best", "85%", "")], ["a note"], "validation images",
        "stage3_accuracy", points, endings=[Ending("scale 3", "failed", "no <memory>")], best_yaml="a: 1", **more,
    )  # fmt: skip


def test_the_page_shows_curves_and_points_and_needs_no_network():
    scores = {(value, seed): 0.5 + value / 4 for value in (0.0, 0.4, 0.8) for seed in (0, 1)}
    report = _report(_trials(scores, frechet_distance=0.7))
    page = render_search(report)
    headings = re.findall(r"<h3>(.*?)</h3>", page)
    assert headings == [
        "accuracy over guidance scale",
        "gain of stage 3, points over guidance scale",
        "Fréchet distance over guidance scale",
    ]
    assert "no &lt;memory&gt;" in page
    assert "Search: &lt;b&gt;" in page
    assert not re.search(r"<script|src=\"http|url\(http|<link", page)
    assert page == render_search(report)


def test_a_search_over_two_settings_has_a_line_for_each_value_of_the_other():
    trials = []
    for labels in (1, 10):
        for scale in (0.0, 0.4):
            trial = made_up_trial({"labels.per_class": labels, "sampling.guidance_scale": scale})
            trials.append((trial, finished(trial, 0.5)))
    panels = dict(setting_panels(points_of(trials), "sampling.guidance_scale"))
    svg = panels["accuracy over guidance scale"].svg
    assert "labels a class 1" in svg
    assert "labels a class 10" in svg


def test_the_numbers_of_a_drawing_stand_in_the_order_of_its_axis():
    points = best_first(points_of(_trials({(0.4, 0): 0.7, (0.0, 0): 0.9, (1.6, 0): 0.8})), "stage3_accuracy")
    panel = dict(setting_panels(points, "sampling.guidance_scale"))["accuracy over guidance scale"]
    assert "Stage 3: 90.0% at 0, 70.0% at 0.4, 80.0% at 1.6." in panel.alt


@pytest.mark.parametrize("values", [[1, 2, 4, 10], ["heun", "euler"], [None, 0.25], [True, False], [[0.1, 2.0], None]])
def test_settings_of_every_kind_can_be_drawn(values):
    trials = []
    for value in values:
        trial = made_up_trial({"a.b": value})
        trials.append((trial, finished(trial, 0.5)))
    assert len(setting_panels(points_of(trials), "a.b")) == 2
    assert render_search(_report(trials))


def test_a_search_without_a_finished_trial_has_a_page_too():
    page = render_search(_report(_trials({(0.0, 0): "failed", (0.4, 0): "stopped"})))
    assert "Not finished" in page
    assert "Curves" not in page
