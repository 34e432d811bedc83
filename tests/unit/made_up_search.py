"""Whole searches without Ray: trials are not run, but end with figures that a test gives."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpt_ray.config.search_settings import TuneConfig
from dpt_ray.distributed import resources, tuning
from dpt_ray.distributed.trial_messages import TrialOutcome, TrialReport
from dpt_ray.experiments.search import room
from dpt_ray.experiments.search import search as search_module
from dpt_ray.experiments.search.search import Search, Searched
from dpt_ray.experiments.search.space import Trial
from dpt_ray.pipeline.artifacts.store import ArtifactStore

DIGITS = str(Path(__file__).parents[2] / "configs" / "digits.yaml")
STOP, FAIL, DIE, PREEMPT = "stop", "fail", "die", "preempt"
"""What a trial may do in place of giving figures."""


def tune_config(space: dict[str, Any], **changes: Any) -> TuneConfig:
    """A search on digits."""
    tree = {"name": "try", "base": DIGITS, "space": space, "validation": {"images": "training"}, **changes}
    return TuneConfig.model_validate(tree)


class Runs:
    """Stands for the trials' runs.

    Args:
        outcome: from a trial to its figures, or to one of the words above.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, outcome: Callable[[Trial], dict[str, Any] | str]):
        self._outcome = outcome
        self.begun: Counter[str] = Counter()
        """How often each trial was begun, by its key."""
        self.said: list[str] = []
        self.concurrent = 2
        self.most = 10**6
        """Trials after which the search is interrupted."""
        monkeypatch.setattr(tuning, "run_trials", self._run_trials)
        monkeypatch.setattr(search_module.connection, "connect", lambda config: None)
        monkeypatch.setattr(resources, "concurrent_runs", lambda config, wanted: self.concurrent)
        monkeypatch.setattr(room, "runs_in_memory", lambda run_bytes: self.concurrent)

    def search(self, root: Path, tune: TuneConfig, *overrides: str) -> tuple[Search, Searched]:
        """Run a search."""
        search = Search(tune, [f"root={root}", *overrides])
        return search, search.run(self.said.append)

    def _run_trials(self, body, events, *, concurrent, halving, earlier, stop_seconds) -> None:
        running: dict[str, Any] = {}
        while True:
            while len(running) < concurrent and (job := events.next_job()) is not None:
                name, trial_job = job
                assert name not in running, "two equal trials at the same time"
                running[name] = trial_job
                self.begun[name] += 1
            if not running:
                assert events.is_over()
                return
            if self.begun.total() >= self.most:
                raise KeyboardInterrupt
            name = next(iter(running))
            self._end(name, running.pop(name), events)

    def _end(self, name: str, job: Any, events: Any) -> None:
        outcome = self._outcome(job.trial)
        if outcome == STOP:
            events.on_end(name, None, TrialReport("g", "stage3", 0.25, 0.1), False)
        elif outcome == FAIL:
            events.on_end(name, TrialOutcome(1.0, "it does not work"), None, False)
        elif outcome == PREEMPT:
            events.on_end(name, TrialOutcome(1.0, preempted="its node is about to be reclaimed"), None, False)
        elif outcome == DIE:
            events.on_end(name, None, None, True)
        else:
            facts = {"stage1_accuracy": 0.5, "stage3_accuracy": 0.5, "test_images": 100, **outcome}
            evaluation = job.trial.run.evaluation
            ArtifactStore(job.root).commit(evaluation.name, name, {"facts": facts, "seconds": 1.0})
            events.on_end(name, TrialOutcome(1.0), None, False)
