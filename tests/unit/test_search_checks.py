"""What is wrong with a search is told at its start, where it was given, and with a trial only if that is the cause."""

from pathlib import Path

import pytest
import yaml
from made_up_search import DIGITS, tune_config

from dpt_ray.config.load import load_config
from dpt_ray.data.shards.samples import build_shard
from dpt_ray.errors import UserError
from dpt_ray.experiments.search import search as search_module
from dpt_ray.experiments.search.search import Search
from dpt_ray.experiments.search.search_warnings import search_warnings
from dpt_ray.experiments.search.trial_plan import describe_search
from dpt_ray.pipeline import inputs

SCALE, STEPS = "sampling.guidance_scale", "sampling.steps"


def _told(tmp_path, space, *overrides: str, **changes) -> str:
    with pytest.raises(UserError) as error:
        Search(tune_config(space, **changes), [f"root={tmp_path}", *overrides])
    return str(error.value)


@pytest.mark.parametrize(
    ("settings", "space", "overrides", "told"),
    [
        ({STEPS: 5}, {STEPS: [5, 9]}, [], f"space: {STEPS}: {STEPS} is given here and in settings: {STEPS}"),
        ({"sampling": {"steps": 5}}, {STEPS: [5]}, [], f"{STEPS} is given here and in settings: sampling"),
        ({f" {STEPS}": 5}, {STEPS: [5]}, [], f"{STEPS} is given here and in settings:  {STEPS}".replace("  ", " ")),
        ({STEPS: 5, "sampling": {"steps": 6}}, {SCALE: [1]}, [], f"{STEPS} is given here and in settings: {STEPS}"),
        ({STEPS: 5, "sampling . steps": 5}, {SCALE: [1]}, [], f"{STEPS} is given here and in settings: {STEPS}"),
        ({"sampling": {"steps": {"deep": 1}}, STEPS: 2}, {SCALE: [1]}, [], "sampling.steps.deep is given here and in"),
        (
            {"stage1.algorithm": {"name": "fixmatch", "threshold": 0.9}},
            {"stage1.algorithm.threshold": [0.5]},
            [],
            "stage1.algorithm.threshold is given here and in settings: stage1.algorithm",
        ),
        ({}, {STEPS: [5, 9]}, [f"{STEPS}=7"], f"--set {STEPS}=7: has no effect, since the search's space varies"),
        ({}, {STEPS: [5, 9]}, ["sampling={steps: 7}"], f"has no effect, since the search's space varies {STEPS}"),
    ],
)  # fmt: skip
def test_a_setting_that_is_given_in_two_places_is_refused(tmp_path, settings, space, overrides, told):
    grids = {name: {"grid": values} for name, values in space.items()}
    message = _told(tmp_path, grids, *overrides, settings=settings)
    assert told in message
    assert "leave" in message


def test_sections_that_give_other_settings_and_the_command_line_over_settings_are_fine(tmp_path):
    settings = {"sampling": {"per_class": 12}, "stage1.algorithm": {"name": "fixmatch"}, "seed": 3}
    space = {STEPS: {"grid": [5]}, "stage1.algorithm.threshold": {"grid": [0.5]}}
    search = Search(tune_config(space, settings=settings), [f"root={tmp_path}", "sampling.per_class=13"])
    (trial,) = search.listed
    assert (trial.config.sampling.per_class, trial.config.sampling.steps) == (13, 5)


@pytest.mark.parametrize("searcher", ["random", "optuna"])
@pytest.mark.parametrize(
    "base",
    [
        "nowhere.yaml",
        "a: [",
        "list",
        "unknown: 3\n",
        "preset: nothing\n",
        "data: {train: /nowhere/at/all, test: /nowhere}\n",
    ],
)
def test_what_is_wrong_with_the_base_names_no_trial(tmp_path, base, searcher):
    file = tmp_path / "base.yaml"
    if base != "nowhere.yaml":
        file.write_text("- 1\n" if base == "list" else base)
    message = _told(tmp_path, {SCALE: {"grid": [0.0, 1.0]}}, base=str(file), searcher={"name": searcher})
    assert "guidance_scale" not in message
    assert "seed" not in message
    assert "--set" not in message
    assert ("/nowhere/at/all" if "nowhere/" in base else "base.yaml") in message


@pytest.mark.parametrize(
    ("changes", "overrides", "told"),
    [
        (
            {"settings": {"stage1.labelled_batch": "many"}},
            [],
            "settings: stage1.labelled_batch: stage1.labelled_batch =",
        ),
        ({"settings": {"sampling": {"stepz": 3}}}, [], "settings: sampling: unknown setting 'sampling.stepz'"),
        ({}, ["stage1.labelled_batch=many"], "--set stage1.labelled_batch=many: stage1.labelled_batch ="),
    ],
)
def test_what_is_wrong_with_all_trials_names_its_place_and_no_trial(tmp_path, changes, overrides, told):
    message = _told(tmp_path, {SCALE: {"grid": [0.0, 1.0]}}, *overrides, **changes)
    assert message.startswith(told)
    assert "(at" not in message


@pytest.mark.parametrize(
    ("name", "dimension"),
    [
        ("stage1.labelled_batch", {"uniform": [30, 31], "integer": True}),
        ("stage1.labelled_batch", {"choice": [30]}),
        ("labels.per_class", {"grid": [-3]}),
        ("sampling.sampler", {"grid": ["eulr"]}),
        ("stage2.model.dim", {"log_uniform": [0.1, 0.9]}),
    ],
)
@pytest.mark.parametrize("searcher", ["random", "optuna"])
def test_a_value_that_is_not_allowed_names_the_entry_of_the_space_and_the_point(tmp_path, name, dimension, searcher):
    message = _told(tmp_path, {name: dimension}, searcher={"name": searcher})
    assert message.startswith(f"space: {name}: ")
    assert f"(at {name.rpartition('.')[2]} " in message
    assert "--set" not in message


def test_a_bad_point_among_good_ones_is_named(tmp_path):
    message = _told(tmp_path, {"labels.per_class": {"grid": [4, 2, -1]}, STEPS: {"grid": [5]}})
    assert "(at per_class -1, steps 5)" in message


def test_the_data_is_looked_at_once_for_all_trials_that_have_it_alike(tmp_path, monkeypatch):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "0.tar").write_bytes(build_shard([]))
    looks = []
    real = inputs.find_data

    def counted(split, *rest):
        looks.append(split)
        return real(split, *rest)

    monkeypatch.setattr(inputs, "find_data", counted)
    space = {STEPS: {"grid": list(range(5, 45))}, "labels.per_class": {"grid": [1, 2]}}
    settings = {"data.train": str(tmp_path / "train"), "data.test": "/nowhere", "data.num_classes": 3}
    search = Search(tune_config(space, settings=settings), [f"root={tmp_path}"])
    assert len(search.listed) == 80
    assert looks == ["train"]


def test_many_points_are_shown_on_the_way(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(search_module, "MANY", 10)
    search = Search(tune_config({STEPS: {"grid": list(range(5, 20))}}), [f"root={tmp_path}"])
    told = capsys.readouterr().err
    assert "checking the search: 0 of 15 points" in told
    assert "checking the search: 15 of 15 points" in told
    assert "15 trials, 0 of them have ended already" in describe_search(search)


def test_a_preset_is_read_once_and_not_changed_by_what_builds_on_it(tmp_path):
    before = load_config(DIGITS)
    load_config(DIGITS, ["stage1.model.width=3", "stage2.model.dim=8", "stage1.algorithm.name=fixmatch"])
    assert load_config(DIGITS) == before
    file = Path(tmp_path, "all.yaml")
    file.write_text(yaml.safe_dump({"preset": "digits", "stage1": {"model": {"width": 5}}}))
    assert load_config(str(file)).stage1.model.width == 5
    assert load_config(DIGITS) == before


def test_a_dry_run_refuses_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("no folder")
    search = Search(tune_config({STEPS: {"grid": [5]}}), [f"root={tmp_path}/file/results"])
    with pytest.raises(UserError, match=r"cannot be written"):
        describe_search(search)


def test_settings_without_effect_or_with_a_ruinous_value_are_told_once(tmp_path):
    space = {SCALE: {"grid": [1, 20]}, STEPS: {"grid": [5, 6]}}
    search = Search(
        tune_config(space, settings={"stage2.model.attention_sizes": [2]}), [f"root={tmp_path}", "stage1.images=64"]
    )
    told = search_warnings(search)
    assert [line for line in told if "guidance_scale" in line] == [
        "sampling.guidance_scale=20: scales above 10 spoil images (at guidance_scale 20, steps 5)"
    ]
    assert len([line for line in told if line.startswith("stage2.model.attention_sizes has no effect")]) == 1
    assert search_warnings(Search(tune_config({STEPS: {"grid": [5]}}), [f"root={tmp_path}"])) == []
