"""Concurrent runs as trials of Ray Tune, with early stopping."""

import json
import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from dpt_ray.distributed.cluster import join_cluster

TRIAL_BYTES = 2**20
"""Bytes of memory that a trial reserves. It reserves no CPU: the workers and tasks that it starts and waits for could
wait for that CPU for ever."""

JOURNAL_SECONDS = 1.0
"""Interval in which the messages of trials are read."""

Report = Callable[[dict[str, Any]], None]
Body = Callable[[Any, Report, Callable[[str], None]], Any]


@dataclass(frozen=True)
class Halving:
    """Asynchronous successive halving of a group of trainings.

    Attributes:
        first_share: share of a training after which it is evaluated first, in (0, 1).
        reduction_factor: one of this number of trainings continues.
    """

    first_share: float
    reduction_factor: float


@dataclass(frozen=True)
class TrialEvents:
    """Functions that are called in this process while trials run.

    Attributes:
        next_job: returns the name of a job and its argument for the body, an object that pickles; None if there is no
            job at the moment.
        is_over: whether there will be no further job.
        on_look: receives a name and the evaluation that the body reported.
        on_end: receives a name, the result of the body (None if the trial was stopped), the last evaluation if there
            was one, and whether its process died.
        say: receives a name and a message of the body.
    """

    next_job: Callable[[], tuple[str, Any] | None]
    is_over: Callable[[], bool]
    on_look: Callable[[str, dict[str, Any]], None]
    on_end: Callable[[str, Any, dict[str, Any] | None, bool], None]
    say: Callable[[str, str], None]


@dataclass
class LooksSoFar:
    """Evaluations of an earlier attempt, which trainings are compared with: (group, name, share, score)."""

    entries: list[tuple[str, str, float, float]] = field(default_factory=list)


def run_trials(
    body: Body, events: TrialEvents, *, concurrent: int, halving: Halving | None, earlier: LooksSoFar
) -> None:
    """Run jobs until there are none.

    Args:
        body: called in a separate process for each job, with the job, `report` and `say`. `report` takes an evaluation:
            `group` (only trainings of one group are compared), `share` of the training and `score`. It does not return
            if the trial is stopped. `body` returns the outcome, a JSON value.
        events: returns the jobs and receives their results.
        concurrent: number of jobs at the same time; see `concurrent_runs`.
        halving: stops jobs early; None lets all jobs finish.
        earlier: evaluations of an earlier attempt.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # an interrupt ends the job, as in all others
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    journal = ray.remote(num_cpus=0)(Journal).remote()
    scheduler = GroupedHalving(halving, earlier) if halving else FIFOScheduler()
    # The files of Tune are temporary: trials resume from their artifacts, and Tune's files are pickles.
    with tempfile.TemporaryDirectory(prefix="dpt_ray-search-") as scratch, _JournalReader(journal, events.say):
        tune.Tuner(
            tune.with_resources(partial(_run, body=body, journal=journal, parts=concurrent), {"memory": TRIAL_BYTES}),
            tune_config=tune.TuneConfig(
                search_alg=_Jobs(events, journal),
                scheduler=scheduler,
                num_samples=-1,
                max_concurrent_trials=concurrent,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(name="search", storage_path=scratch, verbose=0),
        ).fit()


def _run(config: dict[str, Any], *, body: Body, journal: Any, parts: int) -> None:
    """Run one trial; Tune calls it in the trial's process."""
    join_cluster(parts)
    name = config["name"]
    job = ray.get(journal.take_job.remote(name))
    outcome = body(
        job, lambda look: tune.report({"look": json.dumps(look)}), lambda text: journal.write.remote(name, text)
    )
    tune.report({"outcome": json.dumps(outcome)})


class _Jobs(Searcher):
    """Passes jobs to Tune, and their results to the events."""

    def __init__(self, events: TrialEvents, journal: Any):
        super().__init__()
        self._events, self._journal = events, journal
        self._names: dict[str, str] = {}

    def suggest(self, trial_id: str) -> Any:
        job = self._events.next_job()
        if job is None:
            return Searcher.FINISHED if self._events.is_over() else None
        self._names[trial_id] = job[0]
        ray.get(self._journal.put_job.remote(*job))  # not in Tune's configuration, which it copies, flattens and writes
        return {"name": job[0]}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if _is_look(result):
            self._events.on_look(self._names[trial_id], json.loads(result["look"]))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        result = result or {}
        outcome = json.loads(result["outcome"]) if "outcome" in result else None
        look = json.loads(result["look"]) if _is_look(result) else None
        self._events.on_end(self._names.pop(trial_id), outcome, look, error)

    def save(self, checkpoint_path: str) -> None:
        """Store nothing: the search has its own records."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing, since nothing was stored."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Store nothing."""


class GroupedHalving(FIFOScheduler):
    """Applies Tune's ASHA to each group of comparable trainings separately.

    One ASHA for all would stop trials of an unlucky seed because of their seed, and compare accuracies in stage 3 with
    a proxy in stage 2.
    """

    def __init__(self, halving: Halving, earlier: LooksSoFar):
        super().__init__()
        self._halving = halving
        self._groups: dict[str, ASHAScheduler] = {}
        for group, name, share, score in earlier.entries:
            self._look(group, name, share, score)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return Tune's decision whether a trial continues."""
        if not _is_look(result):
            return TrialScheduler.CONTINUE
        look = json.loads(result["look"])
        return self._look(look["group"], trial.config["name"], look["share"], look["score"])

    def _look(self, group: str, name: str, share: float, score: float) -> str:
        trial: Any = SimpleNamespace(trial_id=name)  # all that ASHA reads of a trial
        controller: Any = None  # which it does not read
        if group not in self._groups:
            self._groups[group] = ASHAScheduler(
                time_attr="share",
                metric="score",
                mode="max",
                max_t=1.0,  # type: ignore[arg-type]  # Ray annotates int, and takes any number
                grace_period=self._halving.first_share,  # type: ignore[arg-type]  # as above
                reduction_factor=self._halving.reduction_factor,
            )
        asha = self._groups[group]
        asha.on_trial_add(controller, trial)
        return asha.on_trial_result(controller, trial, {"share": share, "score": score})


def _is_look(result: Mapping[str, Any]) -> bool:
    return "look" in result and "outcome" not in result


class Journal:
    """Holds the jobs of trials and collects their messages; runs as one actor."""

    def __init__(self) -> None:
        self._lines: list[tuple[str, str]] = []
        self._jobs: dict[str, Any] = {}

    def put_job(self, name: str, job: Any) -> None:
        """Keep a job until its trial takes it."""
        self._jobs[name] = job

    def take_job(self, name: str) -> Any:
        """Remove and return a job."""
        return self._jobs.pop(name)

    def write(self, name: str, text: str) -> None:
        """Add a trial's message."""
        self._lines.append((name, text))

    def take(self) -> list[tuple[str, str]]:
        """Remove and return all messages."""
        lines, self._lines = self._lines, []
        return lines


class _JournalReader:
    """Passes the messages in the journal to `say`, in a thread, while the caller waits."""

    def __init__(self, journal: Any, say: Callable[[str, str], None]):
        self._journal, self._say = journal, say
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        if exception[0] is None:
            self._tell()

    def _watch(self) -> None:
        while not self._stop.wait(JOURNAL_SECONDS):
            self._tell()

    def _tell(self) -> None:
        for name, text in ray.get(self._journal.take.remote()):
            self._say(name, text)
