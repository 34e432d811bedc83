"""Equal points of a search are one run: with every searcher, several seeds, early stopping, after an interruption."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_search import DIE, FAIL, PREEMPT, STOP, Runs, tune_config
from search_trials import made_up_trial

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.errors import UserError
from dpt_ray.experiments.search.finish import finish_search
from dpt_ray.experiments.search.search import Search
from dpt_ray.experiments.search.sharing import Draws, distinct
from dpt_ray.experiments.search.trial_plan import describe_search

SCALE = "sampling.guidance_scale"
MOST_DEATHS = ClusterConfig().max_failures
SPACES = {
    "drawn again": ({SCALE: {"choice": [0.0, 1.0]}}, 6, 2),
    "listed twice": ({SCALE: {"choice": [1, 1]}}, 2, 1),
    "1 and 1.0": ({SCALE: {"choice": [1, 1.0, 2]}}, 8, 2),
    "true twice": ({"evaluation.frechet": {"choice": [True, True]}}, 4, 1),
    "lists": ({"sampling.guidance_interval": {"choice": [[0.1, 2], [0.1, 2.0]]}}, 4, 1),
    "whole numbers": ({"sampling.steps": {"uniform": [5, 6], "integer": True}}, 6, 2),
}


@pytest.fixture(params=["random", "optuna"])
def searcher(request) -> str:
    if request.param == "optuna":
        pytest.importorskip("optuna")
    return request.param


def _by_scale(trial) -> dict[str, float]:
    return {"stage3_accuracy": 0.6 + 0.1 * trial.config.sampling.guidance_scale}


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
@pytest.mark.parametrize(("space", "draws", "most"), SPACES.values(), ids=SPACES.keys())
def test_equal_draws_are_run_once_and_the_count_says_so(monkeypatch, tmp_path, searcher, space, draws, most, seeds):
    runs = Runs(monkeypatch, _by_scale)
    tune = tune_config(space, budget={"draws": draws}, searcher={"name": searcher}, seeds=seeds)
    search, searched = runs.search(tmp_path, tune)
    assert set(runs.begun.values()) == {1}
    assert len(searched.trials) == len(runs.begun) <= most * len(seeds)
    assert {record.state for _, record in searched.trials} == {"finished"}
    assert searched.draws.drawn == draws
    assert searched.draws.distinct == len(runs.begun) // len(seeds)
    text = finish_search(search, searched).text
    assert f"{draws} draws, {searched.draws.distinct} distinct" in text
    results = json.loads((tmp_path / "searches" / "try" / "results.json").read_text())
    assert results["draws"] == {"drawn": draws, "distinct": searched.draws.distinct}
    assert sum(trial["draws"] for trial in results["trials"]) == draws * len(seeds)
    rows = [line for line in text.splitlines() if line.endswith(f" {len(seeds)} of {len(seeds)}")]
    assert len(rows) == searched.draws.distinct


def test_the_plan_counts_equal_draws_once(tmp_path):
    tune = tune_config({SCALE: {"choice": [0.0, 1.0]}}, budget={"draws": 6})
    plan = describe_search(Search(tune, [f"root={tmp_path}"]))
    assert "6 draws, 2 distinct" in plan
    assert "2 trials, 0 of them have ended already" in plan


@pytest.mark.parametrize("outcome", [FAIL, DIE, STOP])
def test_a_trial_that_ends_badly_is_not_run_again_for_an_equal_draw(monkeypatch, tmp_path, searcher, outcome):
    runs = Runs(monkeypatch, lambda trial: outcome if trial.config.sampling.guidance_scale else _by_scale(trial))
    tune = tune_config({SCALE: {"choice": [0.0, 1.0]}}, budget={"draws": 8}, searcher={"name": searcher})
    _, searched = runs.search(tmp_path, tune)
    assert runs.begun.total() == 2 + (MOST_DEATHS if outcome == DIE else 0)
    assert len(searched.trials) == 2
    assert [record.state for trial, record in searched.trials if trial.config.sampling.guidance_scale] == [
        "stopped" if outcome == STOP else "failed"
    ]


@pytest.mark.parametrize(("word", "why"), [(DIE, "its process died"), (PREEMPT, "its node is about to be reclaimed")])
def test_a_trial_that_lost_its_process_runs_again(monkeypatch, tmp_path, searcher, word, why):
    left = {0.0: 2, 1.0: 1}  # times that a trial of this scale is lost

    def outcome(trial) -> dict | str:
        scale = trial.config.sampling.guidance_scale
        left[scale] -= 1
        return word if left[scale] >= 0 else _by_scale(trial)

    runs = Runs(monkeypatch, outcome)
    tune = tune_config({SCALE: {"choice": [0.0, 1.0]}}, budget={"draws": 8}, searcher={"name": searcher})
    _, searched = runs.search(tmp_path, tune)
    assert sorted(runs.begun.values()) == [2, 3]
    assert {record.state for _, record in searched.trials} == {"finished"}
    assert sum(f"runs again, since {why}" in line for line in runs.said) == 3


def test_an_interrupted_search_goes_on_without_running_a_point_twice(monkeypatch, tmp_path, searcher):
    tune = tune_config(
        {SCALE: {"choice": [0.0, 1.0, 2.0, 3.0]}}, budget={"draws": 12}, searcher={"name": searcher}, seeds=[0, 1]
    )
    runs = Runs(monkeypatch, _by_scale)
    runs.most = 4
    with pytest.raises(KeyboardInterrupt):
        runs.search(tmp_path, tune)
    ended = {line.partition("] ")[2].partition(": ")[0] for line in runs.said if "finished in" in line}
    again = Runs(monkeypatch, _by_scale)
    _, searched = again.search(tmp_path, tune)
    assert set(again.begun.values()) == {1}
    assert {record.state for _, record in searched.trials} == {"finished"}
    begun_again = {trial.title for trial, _ in searched.trials if trial.key in again.begun}
    assert ended
    assert not ended & begun_again
    assert searched.draws.drawn == 12

    _, third = Runs(monkeypatch, _by_scale).search(tmp_path, tune)
    assert third.concurrent == 0  # nothing is left, so Ray is not even started
    assert third.draws == searched.draws


def test_many_at_the_same_time_share_as_well(monkeypatch, tmp_path, searcher):
    runs = Runs(monkeypatch, _by_scale)
    runs.concurrent = 20
    tune = tune_config({SCALE: {"choice": [0.0, 1.0]}}, budget={"draws": 20}, searcher={"name": searcher})
    _, searched = runs.search(tmp_path, tune)
    assert len(runs.begun) == len(searched.trials) == 2
    assert searched.draws.drawn == 20


def test_points_that_differ_only_in_what_is_not_read_are_one_run(monkeypatch, tmp_path):
    """Where the images are skipped or refused is in no address."""
    runs = Runs(monkeypatch, _by_scale)
    space = {"data.max_skipped_share": {"grid": [0.0, 0.5]}, SCALE: {"grid": [0.0, 1.0]}}
    _, searched = runs.search(tmp_path, tune_config(space))
    assert (searched.draws.drawn, searched.draws.distinct, len(searched.trials)) == (4, 2, 2)


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        (SCALE, [1, 2, 1.0], "1 and 1"),
        (SCALE, [0, 0.0], "0 and 0"),
        ("sampling.steps", [5, 5.0], "5 and 5"),
        ("sampling.guidance_interval", [[0, 2], [0.0, 2.0]], r"\[0, 2\] and \[0.0, 2.0\]"),
    ],
)
def test_a_grid_with_equal_values_is_refused_however_they_are_written(tmp_path, searcher, name, values, told):
    tune = tune_config({name: {"grid": values}}, searcher={"name": searcher})
    with pytest.raises(UserError, match=rf"space: {name}: its grid names {told}, which are the same setting"):
        Search(tune, [f"root={tmp_path}"])


@given(st.lists(st.integers(0, 4), max_size=30), st.integers(1, 3))
def test_distinct_trials_keep_their_order_and_draws_add_up(numbers, seeds):
    points = [[made_up_trial({"a": number}, seed) for seed in range(seeds)] for number in numbers]
    for trials in points:
        for trial in trials:
            trial.__dict__["key"] = trial.title
    kept = distinct(trial for trials in points for trial in trials)
    everything = [trial for trials in points for trial in trials]
    assert kept == [next(trial for trial in everything if trial.key == first.key) for first in kept]
    assert [trial.key for trial in kept] == list(dict.fromkeys(t.key for trials in points for t in trials))
    draws = Draws([[trial.key for trial in trials] for trials in points])
    assert (draws.drawn, draws.distinct) == (len(numbers), len(set(numbers)))
    assert draws.times().total() == len(numbers) * seeds
    assert draws.are_repeated == (len(set(numbers)) < len(numbers))
