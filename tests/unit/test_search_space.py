"""Points of a search's space, and the runs that they stand for."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.config.load import load_config
from dpt_ray.config.search_settings import DimensionConfig, TuneConfig, load_tune
from dpt_ray.errors import UserError
from dpt_ray.experiments.search.space import Trial, Trials, _settings, draw, listed_points

REPOSITORY = Path(__file__).parents[2]
SHIPPED = sorted((REPOSITORY / "configs" / "tune").glob("*.yaml"))
DIGITS = str(REPOSITORY / "configs" / "digits.yaml")


def _tune(space, draws=1, seed=0, images="training") -> TuneConfig:
    return TuneConfig.model_validate(
        {
            "name": "try",
            "base": DIGITS,
            "space": space,
            "validation": {"images": images},
            "budget": {"draws": draws},
            "searcher": {"seed": seed},
        }
    )


def trial_of(tune: TuneConfig, overrides: list[str], point: dict, seed: int) -> Trial:
    return Trials(tune, overrides).trial(point, seed)


def test_grids_are_crossed_in_the_order_of_the_file():
    tune = _tune({"sampling.steps": {"grid": [5, 9]}, "labels.per_class": {"grid": [1, 2]}})
    assert listed_points(tune) == [
        {"sampling.steps": 5, "labels.per_class": 1},
        {"sampling.steps": 5, "labels.per_class": 2},
        {"sampling.steps": 9, "labels.per_class": 1},
        {"sampling.steps": 9, "labels.per_class": 2},
    ]


def test_more_draws_begin_with_the_same_ones_and_another_seed_has_others():
    space = {"sampling.guidance_scale": {"uniform": [0, 2]}, "sampling.steps": {"grid": [5, 9]}}
    few, many = listed_points(_tune(space, draws=2)), listed_points(_tune(space, draws=5))
    assert many[:4] == few
    assert len({point["sampling.guidance_scale"] for point in many}) == 10
    assert listed_points(_tune(space, draws=2, seed=1)) != few


@given(st.integers(0, 10**6))
def test_what_is_drawn_lies_within_its_bounds(seed):
    random = np.random.default_rng(seed)
    assert -1 <= draw(DimensionConfig(uniform=(-1, 3)), random) <= 3
    assert 1e-4 <= draw(DimensionConfig(log_uniform=(1e-4, 1)), random) <= 1
    whole = draw(DimensionConfig(uniform=(1, 3), integer=True), random)
    assert whole in (1, 2, 3)
    assert isinstance(whole, int)


def test_draws_are_spread_as_their_names_say():
    random = np.random.default_rng(0)
    logarithms = np.log10([draw(DimensionConfig(log_uniform=(1e-4, 1)), random) for _ in range(4000)])
    assert np.histogram(logarithms, 4, (-4, 0))[0] == pytest.approx(1000, rel=0.12)
    whole = [draw(DimensionConfig(uniform=(1, 4), integer=True), random) for _ in range(4000)]
    assert np.bincount(whole)[1:] == pytest.approx(1000, rel=0.12)  # the outer numbers are as frequent as the inner
    chosen = [draw(DimensionConfig(choice=(None, "a")), random) for _ in range(1000)]
    assert chosen.count(None) == pytest.approx(500, rel=0.15)


def test_values_come_through_as_they_are():
    values = {
        "stage1.optimizer.learning_rate": 1e-05,
        "stage3.mixing.real_share": None,
        "stage2.flip": True,
        "stage2.model.multipliers": [1, 2],
        "name": "a: b",
    }
    config = load_config(DIGITS, _settings(values))
    assert config.stage1.optimizer.learning_rate == 1e-05
    assert config.stage3.mixing.real_share is None
    assert config.stage2.flip is True
    assert config.stage2.model.multipliers == (1, 2)
    assert config.name == "a: b"


def test_trials_of_a_guidance_search_share_all_but_what_guidance_reaches():
    tune = load_tune(str(REPOSITORY / "configs" / "tune" / "guidance_scale.yaml"))
    first, second = (trial_of(tune, [], point, 0) for point in listed_points(tune)[:2])
    other = trial_of(tune, [], listed_points(tune)[0], 1)

    def shared(one, two):
        addresses = {step.fingerprint for step in one.steps}
        return {step.title for step in two.steps if step.fingerprint in addresses}

    assert {"stage 1 classifier", "pseudo-labels", "stage 2 generator"} <= shared(first, second)
    assert not {"pseudo images", "stage 3 classifier", "evaluation"} & shared(first, second)
    assert {"train data", "validation images", "training images"} <= shared(first, other)  # compared on one set
    assert not {"labelled subset", "stage 1 classifier"} & shared(first, other)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_point_of_the_shipped_files_is_a_valid_run(file):
    tune = load_tune(str(file))
    for point in listed_points(tune.model_copy(update={"budget": tune.budget.model_copy(update={"draws": 5})})):
        trial_of(tune, [], point, tune.seeds[0])


def test_an_impossible_point_is_named():
    tune = _tune({"labels.per_class": {"grid": [4, -1]}})
    with pytest.raises(UserError, match=r"labels\.per_class = -1 is not allowed.*at per_class -1"):
        trial_of(tune, [], listed_points(tune)[1], 0)


@pytest.mark.parametrize("images", ["training", "labelled"])
def test_a_trial_does_not_even_look_for_the_test_split(tmp_path, images):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "00000.tar").write_bytes(b"not read here")
    overrides = [f"data.train={tmp_path}/train", f"data.test={tmp_path}/nowhere", "labels.per_class=4"]
    tune = _tune({"sampling.steps": {"grid": [5]}}, images=images)
    trial = trial_of(tune, overrides, {"sampling.steps": 5}, 0)
    assert not [step for step in trial.steps if "test" in step.title or "nowhere" in str(step.settings)]
    with pytest.raises(UserError, match="nowhere"):
        trial_of(_tune({"sampling.steps": {"grid": [5]}}, images="test"), overrides, {"sampling.steps": 5}, 0)
