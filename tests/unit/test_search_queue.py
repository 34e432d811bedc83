"""Which trial comes next: not one that would only wait, and no point twice after an interruption."""

import pytest
from search_trials import MadeUpStore, finished, made_up_trial

from dpt_ray.config.search_settings import TuneConfig
from dpt_ray.errors import UserError
from dpt_ray.experiments.search import proposals
from dpt_ray.experiments.search.proposals import ProposedTrials
from dpt_ray.experiments.search.queue import ListedTrials
from dpt_ray.experiments.search.records import Record


def test_the_next_trial_shares_least_of_what_is_missing_with_those_that_run():
    first = made_up_trial({"a": 1}, 0, ("data", "stage 1 of seed 0", "stage 2 of seed 0"))
    same_seed = made_up_trial({"a": 2}, 0, ("data", "stage 1 of seed 0", "stage 2 of seed 0"))
    other_seed = made_up_trial({"a": 1}, 1, ("data", "stage 1 of seed 1", "stage 2 of seed 1"))
    queue = ListedTrials([first, same_seed, other_seed], MadeUpStore())
    assert queue.take([]) is first
    assert queue.take([first]) is other_seed
    assert queue.take([first, other_seed]) is same_seed
    assert queue.take([first, other_seed, same_seed]) is None
    assert queue.is_empty()


def test_what_is_made_already_is_no_reason_to_wait():
    first = made_up_trial({"a": 1}, 0, ("stage_1",))
    second, third = made_up_trial({"a": 2}, 0, ("stage_1",)), made_up_trial({"a": 3}, 1, ("other",))
    assert ListedTrials([second, third], MadeUpStore(stage_1=1.0)).take([first]) is second
    assert ListedTrials([second, third], MadeUpStore()).take([first]) is third


def test_waiting_trials_can_be_dropped():
    trials = [made_up_trial({"a": n}, generator="bad" if n % 2 else "good") for n in range(4)]
    queue = ListedTrials(trials, MadeUpStore())
    assert queue.drop(lambda trial: trial.run.generator.fingerprint == "bad") == [trials[1], trials[3]]
    assert [queue.take([]), queue.take([]), queue.take([])] == [trials[0], trials[2], None]


def _tune(draws: int) -> TuneConfig:
    return TuneConfig.model_validate(
        {
            "name": "try",
            "base": "none",
            "space": {
                "sampling.guidance_scale": {"uniform": [0, 1]},
                "sampling.sampler": {"choice": [None, "heun"]},
            },
            "seeds": [0, 1],
            "validation": {"images": "training"},
            "searcher": {"name": "optuna"},
            "budget": {"draws": draws},
        }
    )


class _World:
    """Remembers what became of trials, as a search's records do."""

    def __init__(self, folder):
        self.folder, self.ended = folder, {}

    def queue(self, draws: int) -> ProposedTrials:
        def trials(point):
            return [made_up_trial(point, seed) for seed in (0, 1)]

        return ProposedTrials(
            _tune(draws), str(self.folder), MadeUpStore(), trials, lambda trial: self.ended.get(trial.key)
        )

    def score(self, trial) -> Record:
        return finished(trial, 1 - (trial.point["sampling.guidance_scale"] - 0.3) ** 2 - 0.01 * trial.seed)

    def run(self, queue, most: int) -> list[str]:
        """Run trials one by one; return their keys."""
        keys = []
        while len(keys) < most and (trial := queue.take([])) is not None:
            self.ended[trial.key] = self.score(trial)
            queue.tell(trial, self.ended[trial.key])
            keys.append(trial.key)
        return keys


def test_proposals_are_run_with_every_seed_and_end_with_the_budget(tmp_path):
    pytest.importorskip("optuna")
    world = _World(tmp_path)
    queue = world.queue(draws=4)
    keys = world.run(queue, 100)
    assert len(keys) == len(set(keys)) == 8
    assert queue.is_empty()
    assert {trial.seed for trial in queue.described} == {0, 1}


def test_an_interrupted_search_goes_on_with_the_same_points(tmp_path):
    pytest.importorskip("optuna")
    whole = _World(tmp_path / "whole")
    expected = whole.run(whole.queue(draws=5), 100)

    world = _World(tmp_path / "interrupted")
    done = world.run(world.queue(draws=5), 3)  # the second point has one seed to go
    resumed = world.queue(draws=5)
    assert done + world.run(resumed, 100) == expected


def test_optuna_learns_from_what_is_told(tmp_path):
    pytest.importorskip("optuna")
    world = _World(tmp_path)
    queue = world.queue(draws=40)
    world.run(queue, 200)
    tried = [trial.point["sampling.guidance_scale"] for trial in queue.described]
    far = [sum(abs(value - 0.3) for value in part) / len(part) for part in (tried[:20], tried[-20:])]
    assert far[1] < far[0] / 2  # its later proposals lie nearer to the best


def test_another_space_asks_for_other_points(tmp_path):
    pytest.importorskip("optuna")
    world = _World(tmp_path)
    world.run(world.queue(draws=2), 100)
    tune = _tune(2).model_copy(update={"space": {"sampling.guidance_scale": _tune(1).space["sampling.guidance_scale"]}})
    queue = ProposedTrials(tune, str(tmp_path), MadeUpStore(), lambda p: [made_up_trial(p)], lambda trial: None)
    assert queue.described == []


def test_a_failed_seed_does_not_count_as_a_figure(tmp_path):
    pytest.importorskip("optuna")
    world = _World(tmp_path)
    queue = world.queue(draws=2)
    first = queue.take([])
    queue.tell(first, Record(first.point, first.seed, "failed", "why"))
    second = queue.take([first])
    queue.tell(second, world.score(second))
    assert [trial.state.name for trial in queue._study.trials] == ["FAIL"]


def test_without_optuna_the_remedy_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(UserError, match=r"optuna is not installed; pip install 'dpt_ray\[optuna\]'"):
        proposals._import_optuna()
