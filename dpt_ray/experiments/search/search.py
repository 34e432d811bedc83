"""A search: from a tune file to the records of its trials. The same command continues an interrupted one."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from dpt_ray.config.search_settings import TuneConfig
from dpt_ray.data.storage import stores
from dpt_ray.distributed import connection
from dpt_ray.distributed.progress import ProgressLine
from dpt_ray.distributed.trial_messages import TrialOutcome, TrialReport
from dpt_ray.experiments.search.proposals import ProposedTrials
from dpt_ray.experiments.search.queue import ListedTrials, TrialQueue
from dpt_ray.experiments.search.records import Record, Records, StageReport, measured
from dpt_ray.experiments.search.results import remove_other_results
from dpt_ray.experiments.search.room import room_for
from dpt_ray.experiments.search.search_checks import check_early_stopping, check_given_once, check_space
from dpt_ray.experiments.search.sharing import Draws, distinct
from dpt_ray.experiments.search.space import Point, Trial, Trials, listed_points
from dpt_ray.experiments.search.trial_process import TrialJob, run_trial
from dpt_ray.pipeline.artifacts.store import ArtifactStore
from dpt_ray.tables import format_seconds, format_share

Say = Callable[[str], None]

DIED = "the trial's process died, more often than cluster.max_failures; it may have run out of memory"

MANY = 500
"""Number of trials from which the check of their settings shows its progress, since it takes some seconds."""


@dataclass(frozen=True)
class Searched:
    """The state of a search after a session, which ends with its trials or with its time.

    Attributes:
        folder: URL of its folder.
        trials: all different trials so far with their records, in their order.
        draws: the drawn points, several of which may be the same run.
        concurrent: concurrent trials in this session; 0 if none ran.
        seconds: duration of this session.
        impossible: error of each proposed point that could not run.
    """

    folder: str
    trials: list[tuple[Trial, Record]]
    draws: Draws
    concurrent: int
    seconds: float
    impossible: tuple[str, ...] = ()


class Search:
    """The trials of a tune file.

    Args:
        tune: the tune file.
        overrides: `a.b=c` of the command line.

    Raises:
        UserError: impossible settings at some point of the space, or data that cannot be read.
    """

    def __init__(self, tune: TuneConfig, overrides: Sequence[str]):
        self.tune, self.overrides = tune, overrides
        check_given_once(tune, overrides)
        self.trials = Trials(tune, overrides)
        points = listed_points(tune) if tune.searcher.name == "random" else listed_points(tune)[:1]
        first = self.trials.trial(points[0], tune.seeds[0]).config
        check_space(tune, self.trials)
        check_early_stopping(tune, first)
        self.listed: list[Trial] = []
        """The different trials that are known from the start."""
        self.draws = Draws([])
        """The points that are known from the start."""
        if tune.searcher.name == "random":
            # Neighbours differ in their seed, since trials of one seed share most.
            drawn = [self.trials_of(point) for point in self._shown(points)]
            self.draws = Draws([[trial.key for trial in trials] for trials in drawn])
            self.listed = distinct(trial for trials in drawn for trial in trials)
        self.root, self.cluster, self._first = first.root, first.cluster, first
        self.store = ArtifactStore(self.root)
        self.records = Records(self.root, tune.name, tune.scheduler.model_dump(mode="json"))

    def trials_of(self, point: Point) -> list[Trial]:
        """Return the trials of a point, one for each seed."""
        return [self.trials.trial(point, seed) for seed in self.tune.seeds]

    def _shown(self, points: list[Point]) -> Iterator[Point]:
        """Yield points, with a progress line if there are many."""
        if len(points) * len(self.tune.seeds) < MANY:
            yield from points
            return
        with ProgressLine("checking the search", len(points), "points") as line:
            for number, point in enumerate(points):
                line.update(number)
                yield point
            line.update(len(points))

    def run(self, say: Say) -> Searched:
        """Run the trials that have not ended. Ray is started once for all of them, and only if there are any.

        Failed trials run again; finished ones, and those that were stopped early, do not.
        """
        began = time.monotonic()
        stores.check_writable(self.store.root)
        self.trials.inputs.keep_listings()
        remove_other_results(self.records.folder, self.tune, self.overrides)
        queue: TrialQueue
        if self.tune.searcher.name == "random":
            known = zip(self.listed, self.records.read_all(self.listed), strict=True)
            queue = ListedTrials([trial for trial, record in known if not _has_ended(record)], self.store)
            described = self.listed
        else:
            queue = ProposedTrials(self.tune, self.records.folder, self.store, self.trials_of, self._ended)
            described = queue.described
        records = self.records.read_all(described)
        session = _Session(self, queue, described, say, self._deadline(began))
        if self.draws.are_repeated:
            say(self.draws.describe())
        if ended := sum(map(_has_ended, records)):
            say(f"{ended} of {session.total} trials have ended already")
        concurrent = 0
        if not queue.is_empty():
            connection.connect(self.cluster)
            left = session.total - ended
            room = room_for(self.tune, self._first, left)
            concurrent = room.runs
            say(f"{left} trials to run, {room}")
            session.run(concurrent, records)
        return Searched(
            self.records.folder,
            list(zip(described, self.records.read_all(described), strict=True)),
            Draws(queue.points, len(queue.impossible)) if isinstance(queue, ProposedTrials) else self.draws,
            concurrent,
            time.monotonic() - began,
            tuple(queue.impossible) if isinstance(queue, ProposedTrials) else (),
        )

    def _deadline(self, began: float) -> float | None:
        return began + 3600 * self.tune.budget.hours if self.tune.budget.hours else None

    def _ended(self, trial: Trial) -> Record | None:
        record = self.records.read(trial)
        return record if _has_ended(record) else None


def _has_ended(record: Record) -> bool:
    return record.state in ("finished", "stopped")


class _Session:
    """One session, which runs the remaining trials of a search."""

    def __init__(self, search: Search, queue: TrialQueue, described: list[Trial], say: Say, deadline: float | None):
        self._search, self._queue, self._described = search, queue, described
        self._say, self._deadline = say, deadline
        self._running: dict[str, Trial] = {}
        self._deaths: Counter[str] = Counter()
        self._said_late = False

    @property
    def total(self) -> int:
        """Number of different trials; the largest possible one while a searcher still proposes points."""
        return len(self._described) + self._queue.most_to_come()

    def run(self, concurrent: int, records: Sequence[Record]) -> None:
        """Run trials.

        Args:
            concurrent: number of concurrent trials.
            records: records of the trials that are described so far.
        """
        from dpt_ray.distributed.tuning import EarlierReports, Halving, TrialEvents, run_trials

        scheduler = self._search.tune.scheduler
        run_trials(
            run_trial,
            TrialEvents(self._next, self._is_over, self._on_report, self._on_end, self._on_say),
            concurrent=concurrent,
            halving=Halving(scheduler.first_share, scheduler.reduction_factor) if scheduler.name == "asha" else None,
            stop_seconds=self._search.cluster.preemption_seconds,
            earlier=EarlierReports(
                [
                    (trial.key, TrialReport(trial.group(report.stage), report.stage, report.share, report.score))
                    for trial, record in zip(self._described, records, strict=True)
                    for report in record.reports
                ]
            ),
        )

    def _next(self) -> tuple[str, TrialJob] | None:
        if self._is_late():
            return None
        trial = self._queue.take(self._running.values())
        if trial is None:
            return None
        self._running[trial.key] = trial
        self._say(f"{self._label(trial)}: begins")
        return trial.key, TrialJob(trial, self._search.store.root, self._search.tune.scheduler)

    def _is_late(self) -> bool:
        late = self._deadline is not None and time.monotonic() > self._deadline
        if late and not self._said_late:
            self._said_late = True
            self._say("the time of budget.hours is over: no further trial begins")
        return late

    def _is_over(self) -> bool:
        return self._is_late() or self._queue.is_empty()

    def _on_report(self, key: str, report: TrialReport) -> None:
        trial = self._running[key]
        self._search.records.write(trial, _with_report(self._search.records.read(trial), report))
        self._say(f"{self._label(trial)}: {_describe_report(report)}")

    def _on_end(self, key: str, outcome: TrialOutcome | None, report: TrialReport | None, died: bool) -> None:
        trial = self._running.pop(key)
        if again := self._why_again(key, outcome, died):
            self._queue.put_back(trial)
            self._say(f"{self._label(trial)}: runs again, since {again}")
            return
        record = self._search.records.read(trial)
        if died:
            record = replace(record, state="failed", cause=DIED)
        elif outcome is None and report is not None:
            cause = f"in {_describe_report(report)}"
            record = replace(_with_report(record, report), state="stopped", cause=cause)
        elif outcome is None:
            record = replace(record, state="failed", cause="ended without a result")
        elif outcome.cause is not None:
            record = replace(record, state="failed", cause=outcome.cause, seconds=outcome.seconds)
        elif record.state != "finished":
            record = replace(record, state="failed", cause=f"its evaluation is not at {self._search.store.root}")
        else:
            record = replace(record, seconds=outcome.seconds)
        self._end(trial, record)
        if record.state == "stopped" and report is not None and report.stage == "stage2":
            self._drop_with(trial)

    def _why_again(self, key: str, outcome: TrialOutcome | None, died: bool) -> str | None:
        """Return why a trial that has ended runs again, from its checkpoint; None if it does not."""
        if outcome is not None and outcome.preempted is not None:
            return outcome.preempted
        self._deaths[key] += died
        # What another machine would not change occurs again: not for ever, as for a training that fails.
        return "its process died" if died and self._deaths[key] <= self._search.cluster.max_failures else None

    def _end(self, trial: Trial, record: Record) -> None:
        self._search.records.write(trial, record)
        self._queue.tell(trial, record)
        self._say(f"{self._label(trial)}: {self._describe(trial, record)}")

    def _drop_with(self, stopped: Trial) -> None:
        """End the waiting trials that have the generator of a stopped trial."""
        generator = stopped.run.generator.fingerprint
        for trial in self._queue.drop(lambda other: other.run.generator.fingerprint == generator):
            record = self._search.records.read(trial)
            cause = f"its generator was stopped, in the trial of {stopped.title}"
            self._end(trial, replace(record, state="stopped", cause=cause))

    def _on_say(self, key: str, text: str) -> None:
        if key in self._running:
            self._say(f"{self._label(self._running[key])}: {text}")

    def _label(self, trial: Trial) -> str:
        return f"[{self._described.index(trial) + 1}/{self.total}] {trial.title}"

    def _describe(self, trial: Trial, record: Record) -> str:
        if record.state != "finished":
            return f"{record.state}: {record.cause}"
        figures = self._search.records.read(trial).metrics
        accuracy = (
            f"stage 1 {format_share(measured(figures.get('stage1_accuracy')))}, "
            f"stage 3 {format_share(measured(figures.get('stage3_accuracy')))}"
        )
        return f"finished in {format_seconds(record.seconds)} ({accuracy})"


def _with_report(record: Record, report: TrialReport) -> Record:
    reports = (*record.reports, StageReport(report.stage, report.share, report.score))
    return replace(record, reports=reports)


def _describe_report(report: TrialReport) -> str:
    return f"{report.stage} at {report.share:.0%}, score {report.score:.4g}"
