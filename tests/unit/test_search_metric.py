"""A metric that is not measured names no winner: refused at the start, or at the end, and no best settings are left."""

import json
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from made_up_search import FAIL, Runs, tune_config
from search_trials import finished, made_up_trial

from dpt_ray.config.load import load_config
from dpt_ray.errors import UserError
from dpt_ray.experiments.search.finish import finish_search
from dpt_ray.experiments.search.records import measured, with_gain
from dpt_ray.experiments.search.search import Search
from dpt_ray.experiments.search.summary import best_first, points_of, winner

SCALE = "sampling.guidance_scale"
GRID = {SCALE: {"grid": [0.0, 1.0, 2.0]}}
ALL_MEASURED: dict = {0.0: {}, 1.0: {}, 2.0: {}}
NOT_MEASURED = "frechet_distance is not measured where evaluation.frechet is false; set evaluation.frechet to true"


def _base(tmp_path, text: str) -> str:
    (tmp_path / "base.yaml").write_text(f"preset: digits\n{text}")
    return str(tmp_path / "base.yaml")


@pytest.mark.parametrize("searcher", ["random", "optuna"])
@pytest.mark.parametrize("where", ["settings", "section", "base", "command line", "grid", "choice"])
def test_a_metric_that_the_settings_switch_off_is_refused_at_the_start(tmp_path, where, searcher):
    changes, overrides, space = {"searcher": {"name": searcher}}, [f"root={tmp_path}"], dict(GRID)
    if where == "settings":
        changes["settings"] = {"evaluation.frechet": False}
    elif where == "section":
        changes["settings"] = {"evaluation": {"frechet": False}}
    elif where == "base":
        changes["base"] = _base(tmp_path, "evaluation: {frechet: false}\n")
    elif where == "command line":
        overrides.append("evaluation.frechet=false")
    else:
        space["evaluation.frechet"] = {where: [True, False]}
    with pytest.raises(UserError, match=NOT_MEASURED):
        Search(tune_config(space, metric="frechet_distance", **changes), overrides)
    Search(tune_config(space, **changes), overrides)  # another metric does without it


def _finish(monkeypatch, tmp_path, figures, **changes):
    """Run a search whose trials end with figures by their scale; return what it says and its files' folder."""
    runs = Runs(monkeypatch, lambda trial: figures[trial.config.sampling.guidance_scale])
    search, searched = runs.search(tmp_path, tune_config(GRID, **changes))
    return finish_search(search, searched), tmp_path / "searches" / "try"


MISSING = {"frechet_distance": None}, {}, {"frechet_distance": math.nan}, {"frechet_distance": math.inf}


@pytest.mark.parametrize("missing", MISSING, ids=str)
def test_where_no_trial_measured_the_metric_there_is_no_winner(monkeypatch, tmp_path, missing):
    for search in ("stage3_accuracy", "frechet_distance"):  # an older search of the name had a best point
        figures = dict.fromkeys((0.0, 1.0, 2.0), missing)
        end, folder = _finish(monkeypatch, tmp_path, figures, metric=search)
        assert (folder / "best.yaml").exists() == (search == "stage3_accuracy")
    assert str(end.problem) == (
        "search try: no trial measured frechet_distance, so no point is the best; choose another metric; figures of "
        "all trials: results.json"
    )
    assert "best:" not in end.text
    assert "3 of 3 finished trials did not measure frechet_distance" in end.text
    assert json.loads((folder / "results.json").read_text())["best"] is None
    assert "Best settings" not in (folder / "report.html").read_text()


@pytest.mark.parametrize("missing", MISSING, ids=str)
@pytest.mark.parametrize(("metric", "figures", "best"), [("frechet_distance", (3.0, 2.0), 2.0)])
def test_trials_without_the_metric_never_win(monkeypatch, tmp_path, missing, metric, figures, best):
    given_figures = {0.0: missing, 1.0: {metric: figures[0]}, 2.0: {metric: figures[1]}}
    end, folder = _finish(monkeypatch, tmp_path, given_figures, metric=metric)
    assert end.problem is None
    assert "best: guidance_scale 2;" in end.text
    assert load_config(str(folder / "best.yaml")).sampling.guidance_scale == best
    assert json.loads((folder / "results.json").read_text())["best"] == {SCALE: best}
    assert [line.split()[0] for line in end.text.splitlines() if line.endswith("1 of 1")] == ["2", "1", "0"]


@pytest.mark.parametrize("metric", ["stage3_accuracy", "gain", "pseudo_image_agreement"])
def test_more_is_better_and_nothing_is_not_more(monkeypatch, tmp_path, metric):
    values = {"stage3_accuracy": "stage3_accuracy", "gain": "stage3_accuracy"}.get(metric, metric)
    figures = {0.0: {values: math.nan}, 1.0: {values: 0.7}, 2.0: {values: 0.6}}
    end, _ = _finish(monkeypatch, tmp_path, figures, metric=metric)
    assert "best: guidance_scale 1;" in end.text


def test_where_all_trials_failed_the_first_cause_is_the_reason(monkeypatch, tmp_path):
    end, folder = _finish(monkeypatch, tmp_path, dict.fromkeys((0.0, 1.0, 2.0), FAIL))
    assert str(end.problem) == (
        "search try: no trial finished, so no point is the best (guidance_scale 0, seed 0: it does not work)"
    )
    assert not (folder / "best.yaml").exists()


def test_a_search_whose_time_is_over_has_no_winner_yet_and_no_problem(monkeypatch, tmp_path):
    runs = Runs(monkeypatch, lambda trial: {})
    search, searched = runs.search(tmp_path, tune_config(GRID, budget={"hours": 1e-9}))
    assert finish_search(search, searched).problem is None
    assert not (tmp_path / "searches" / "try" / "best.yaml").exists()


def test_files_of_another_search_of_the_name_do_not_stay(monkeypatch, tmp_path):
    _, folder = _finish(monkeypatch, tmp_path, ALL_MEASURED)
    files = [folder / name for name in ("best.yaml", "report.html", "results.json")]
    runs = Runs(monkeypatch, lambda trial: {})
    runs.search(tmp_path, tune_config(GRID, budget={"draws": 3, "hours": 1}))  # more of the same, interrupted
    runs.search(tmp_path, tune_config(GRID), "cluster.workers=1")
    assert all(file.exists() for file in files)
    runs.most = 1
    with pytest.raises(KeyboardInterrupt):
        runs.search(tmp_path, tune_config({SCALE: {"grid": [5.0]}}))
    assert not any(file.exists() for file in files)

    _finish(monkeypatch, tmp_path, ALL_MEASURED)
    runs = Runs(monkeypatch, lambda trial: {})
    runs.most = 1
    with pytest.raises(KeyboardInterrupt):
        runs.search(tmp_path, tune_config(GRID), "sampling.steps=7")
    assert not any(file.exists() for file in files)


@pytest.mark.parametrize("damaged", ["", "{", "[]", "null", '{"search": 3}'])
def test_results_that_nobody_can_read_do_not_stay(monkeypatch, tmp_path, damaged):
    _, folder = _finish(monkeypatch, tmp_path, ALL_MEASURED)
    (folder / "results.json").write_text(damaged)
    Runs(monkeypatch, lambda trial: {}).search(tmp_path, tune_config(GRID))
    assert not (folder / "best.yaml").exists()


def test_the_search_is_still_shown_as_it_was_given(monkeypatch, tmp_path):
    _, folder = _finish(monkeypatch, tmp_path, ALL_MEASURED)
    stored = json.loads((folder / "results.json").read_text())
    assert yaml.safe_load(yaml.safe_dump(stored["search"]))["space"] == {
        SCALE: {"grid": [0.0, 1.0, 2.0], "integer": False}
    }


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, "0.5", True, [], {}])
def test_what_is_no_finite_number_is_not_measured(value):
    assert measured(value) is None
    assert with_gain({"stage1_accuracy": value, "stage3_accuracy": 0.5})["gain"] is None
    assert with_gain({"stage3_accuracy": 0.5})["gain"] is None


figure = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True, width=32))


@given(
    st.lists(st.lists(figure, min_size=2, max_size=2), min_size=1, max_size=5),
    st.sampled_from(["frechet_distance", "gain"]),
)
def test_the_winner_is_the_best_mean_of_those_measured_with_most_seeds(values, metric):
    trials = []
    for number, seeds in enumerate(values):
        for seed, value in enumerate(seeds):
            trial = made_up_trial({"a": number}, seed)
            record = finished(trial, 0.5)
            record.metrics[metric] = value
            trials.append((trial, record))
    points = points_of(trials)
    known = [[v for v in seeds if v is not None and math.isfinite(v)] for seeds in values]
    best = winner(points, metric)
    if not any(known):
        assert best is None
        return
    most = max(map(len, known))
    means = [math.fsum(seeds) / len(seeds) for seeds in known if len(seeds) == most]
    assert best is best_first(points, metric)[0]
    assert best.figures[metric].count == most
    expected = max(means) if metric == "gain" else min(means)
    assert best.figures[metric].mean == pytest.approx(expected)
