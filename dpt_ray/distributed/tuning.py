"""Concurrent runs as trials of Ray Tune, with early stopping."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, TypedDict

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from dpt_ray.distributed.cluster_memory import largest_memory
from dpt_ray.distributed.connection import join_cluster
from dpt_ray.distributed.job_log import tell
from dpt_ray.distributed.journal import Journal, KeptJournal, job_of
from dpt_ray.distributed.notice import SIGTERM_REASON, job_terminated
from dpt_ray.distributed.private_folder import private_folder
from dpt_ray.distributed.trial_messages import Report, TrialOutcome, TrialReport
from dpt_ray.distributed.trial_notice import until_notice
from dpt_ray.distributed.watching_actor import Mailbox
from dpt_ray.json_values import JsonObject

TRIAL_BYTES = 512 * 2**20
"""Bytes of memory that the process of a trial reserves, so that trials spread over the nodes. It reserves no CPU: the
workers and tasks that it starts and waits for could wait for that CPU for ever."""

Body = Callable[[Any, Report, Callable[[str], None]], TrialOutcome]


class TrialConfig(TypedDict):
    """The configuration that Tune passes to a trial."""

    name: str


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
        on_report: receives a name and the evaluation that the body reported.
        on_end: receives a name, the outcome that the body returned (None if the trial was stopped or its process died),
            the last report (None if the last result was the outcome, or there was none), and whether its process died.
        say: receives a name and a message of the body.
    """

    next_job: Callable[[], tuple[str, Any] | None]
    is_over: Callable[[], bool]
    on_report: Callable[[str, TrialReport], None]
    on_end: Callable[[str, TrialOutcome | None, TrialReport | None, bool], None]
    say: Callable[[str, str], None]


@dataclass
class EarlierReports:
    """Reports of an earlier session, with which trainings are compared: the name of the trial and its report."""

    entries: list[tuple[str, TrialReport]] = field(default_factory=list)


def run_trials(
    body: Body,
    events: TrialEvents,
    *,
    concurrent: int,
    halving: Halving | None,
    earlier: EarlierReports,
    stop_seconds: float,
) -> None:
    """Run jobs until there are none.

    Args:
        body: called in a separate process for each job, with the job, `report` and `say`. `report` does not return if
            the scheduler stops the trial.
        events: returns the jobs and receives their results.
        concurrent: number of jobs at the same time; see `concurrent_runs`.
        halving: stops jobs early; None lets all jobs finish.
        earlier: reports of an earlier session.
        stop_seconds: longest time in which jobs store a checkpoint after SIGTERM.

    Raises:
        KeyboardInterrupt: this process got SIGTERM or was interrupted.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the newer output prints in spite of verbose=0
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # an interrupt ends the job, as in all others
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    scheduler = GroupedHalving(halving, earlier) if halving else FIFOScheduler()
    # The files of Tune are temporary: trials resume from their artifacts, and Tune's files are pickles.
    with private_folder() as scratch, KeptJournal(events.say) as journal:
        trial = partial(_run, body=body, journal=journal.mailbox, parts=concurrent)
        tuner = tune.Tuner(
            tune.with_resources(trial, {"memory": int(min(TRIAL_BYTES, largest_memory() / 2))}),
            tune_config=tune.TuneConfig(
                search_alg=_Jobs(events, journal),
                scheduler=scheduler,
                num_samples=-1,
                max_concurrent_trials=concurrent,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(name="search", storage_path=str(scratch), verbose=0),
        )
        try:
            tuner.fit()
        except KeyboardInterrupt:  # it holds Tune's handles of the trials' actors, so that these live
            if not job_terminated.is_set():
                raise
            running = journal.stop_trials(SIGTERM_REASON, stop_seconds)
            if running:
                text = f"warning: {running} trials stored no checkpoint within {stop_seconds:g} s of SIGTERM"
                tell(text, level="warning", event="warning")
            raise


def _run(config: TrialConfig, *, body: Body, journal: Mailbox, parts: int) -> None:
    """Run one trial; Tune calls it in the trial's process."""
    join_cluster(parts)
    name = config["name"]
    run = partial(
        body,
        job_of(journal, name),
        lambda report: tune.report({_REPORT: json.dumps(report.to_json())}),
        lambda text: journal.send(Journal.write, name, text),
    )
    outcome = until_notice(run, journal, name)
    tune.report({_OUTCOME: json.dumps(outcome.to_json())})


class _Jobs(Searcher):
    """Passes jobs to Tune, and their results to the events."""

    def __init__(self, events: TrialEvents, journal: KeptJournal):
        super().__init__()
        self._events, self._journal = events, journal
        self._names: dict[str, str] = {}

    def __getstate__(self) -> dict[str, object]:
        """Return nothing: Tune writes its arguments to a file, which is never read."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        job = self._events.next_job()
        if job is None:
            return Searcher.FINISHED if self._events.is_over() else None
        self._names[trial_id] = job[0]
        self._journal.put_job(*job)  # not in Tune's configuration, which it copies, flattens and writes
        return {"name": job[0]}

    def on_trial_result(self, trial_id: str, result: Mapping[str, object]) -> None:
        report = _report(result)
        if report is not None:
            self._events.on_report(self._names[trial_id], report)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, object] | None = None, error: bool = False) -> None:
        result = result or {}
        outcome = TrialOutcome.from_json(_decoded(result, _OUTCOME)) if _OUTCOME in result else None
        name = self._names.pop(trial_id)
        self._journal.drop_job(name)
        self._events.on_end(name, outcome, _report(result), error)

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

    def __init__(self, halving: Halving, earlier: EarlierReports):
        super().__init__()
        self._halving = halving
        self._groups: dict[str, ASHAScheduler] = {}
        for name, report in earlier.entries:
            self._decide(name, report)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, object]) -> str:
        """Return Tune's decision whether a trial continues."""
        report = _report(result)
        return TrialScheduler.CONTINUE if report is None else self._decide(trial.config["name"], report)

    def _decide(self, name: str, report: TrialReport) -> str:
        trial: Any = SimpleNamespace(trial_id=name)  # all that ASHA reads of a trial
        controller: Any = None  # which it does not read
        if report.group not in self._groups:
            self._groups[report.group] = ASHAScheduler(
                time_attr="share",
                metric="score",
                mode="max",
                max_t=1.0,  # type: ignore[arg-type]  # Ray annotates int, and takes any number
                grace_period=self._halving.first_share,  # type: ignore[arg-type]  # as above
                reduction_factor=self._halving.reduction_factor,
            )
        asha = self._groups[report.group]
        asha.on_trial_add(controller, trial)
        return asha.on_trial_result(controller, trial, {"share": report.share, "score": report.score})


_REPORT, _OUTCOME = "report", "outcome"
"""Metrics of a result of Tune, as JSON texts. A result with an outcome may hold an earlier report as well."""


def _report(result: Mapping[str, object]) -> TrialReport | None:
    """Return the report that a result of Tune holds; None for the outcome of a trial and for an empty result."""
    is_report = _REPORT in result and _OUTCOME not in result
    return TrialReport.from_json(_decoded(result, _REPORT)) if is_report else None


def _decoded(result: Mapping[str, object], metric: str) -> JsonObject:
    decoded: JsonObject = json.loads(str(result[metric]))
    return decoded
