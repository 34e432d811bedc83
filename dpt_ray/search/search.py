"""A search from its tune file to its records; the same command goes on where it was."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpt_ray.config.tune import TuneConfig
from dpt_ray.data import stores
from dpt_ray.distributed import cluster as ray_cluster
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts import ArtifactStore
from dpt_ray.report.table import format_seconds, format_share
from dpt_ray.search.body import TrialJob, run_trial
from dpt_ray.search.proposals import ProposedTrials
from dpt_ray.search.queue import ListedTrials, TrialQueue
from dpt_ray.search.records import Look, Record, Records
from dpt_ray.search.space import Trial, listed_points, trial_of

Say = Callable[[str], None]


@dataclass(frozen=True)
class Searched:
    """A search that has come to its end, or to that of its time.

    Attributes:
        folder: URL of its folder.
        trials: all that it consists of so far, with what became of them, in their order.
        concurrent: trials at the same time in this session; 0 if none was run.
        seconds: how long this session took.
        impossible: why points that were proposed could not be run at all.
    """

    folder: str
    trials: list[tuple[Trial, Record]]
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
        self.tune, self._overrides = tune, overrides
        self.listed: list[Trial] = []
        if tune.searcher.name == "random":
            points = listed_points(tune)
            # Neighbours differ in their seed, since trials of one seed share most.
            self.listed = [trial_of(tune, overrides, point, seed) for point in points for seed in tune.seeds]
            first = self.listed[0].config
        else:
            first = trial_of(tune, overrides, listed_points(tune)[0], tune.seeds[0]).config
        _check_looks(tune, first)
        self.root, self.cluster = first.root, first.cluster
        self.store = ArtifactStore(self.root)
        self.records = Records(self.root, tune.name, tune.scheduler.model_dump(mode="json"))

    def trials_of(self, point: dict[str, Any]) -> list[Trial]:
        """Return a point's trials, one a seed."""
        return [trial_of(self.tune, self._overrides, point, seed) for seed in self.tune.seeds]

    def run(self, say: Say) -> Searched:
        """Run what has not ended yet. Ray is started only for that, and once for all trials.

        Trials that failed are tried again; finished ones, and those that were stopped early, are kept.
        """
        began = time.monotonic()
        stores.check_writable(self.store.root)
        earlier = self._ended
        queue: TrialQueue
        if self.tune.searcher.name == "random":
            kept = {trial: earlier(trial) for trial in self.listed}
            queue = ListedTrials([trial for trial, record in kept.items() if record is None], self.store)
            described = self.listed
        else:
            queue = ProposedTrials(self.tune, self.records.folder, self.store, self.trials_of, earlier)
            described = queue.described
        total = len(self.listed) or self.tune.budget.draws * len(self.tune.seeds)
        ended = sum(earlier(trial) is not None for trial in described)
        if ended:
            say(f"{ended} of {total} trials have ended already")
        concurrent = 0
        if not queue.is_empty():
            ray_cluster.connect(self.cluster)
            wanted = min(self.tune.max_concurrent or total, total - ended)
            concurrent = ray_cluster.concurrent_runs(self.cluster, wanted)
            deadline = began + 3600 * self.tune.budget.hours if self.tune.budget.hours else None
            say(f"{total - ended} trials to run, {concurrent} at the same time")
            _Session(self, queue, described, total, say, deadline).run(concurrent)
        return Searched(
            self.records.folder,
            [(trial, self.records.read(trial)) for trial in described],
            concurrent,
            time.monotonic() - began,
            tuple(queue.impossible) if isinstance(queue, ProposedTrials) else (),
        )

    def _ended(self, trial: Trial) -> Record | None:
        record = self.records.read(trial)
        return record if record.state in ("finished", "stopped") else None


class _Session:
    """One attempt at what is left of a search."""

    def __init__(
        self, search: Search, queue: TrialQueue, described: list[Trial], total: int, say: Say, deadline: float | None
    ):
        self._search, self._queue, self._described = search, queue, described
        self._total, self._say, self._deadline = total, say, deadline
        self._running: dict[str, Trial] = {}
        self._told_late = False

    def run(self, concurrent: int) -> None:
        from dpt_ray.distributed.tuning import Halving, LooksSoFar, TrialEvents, run_trials

        scheduler = self._search.tune.scheduler
        run_trials(
            run_trial,
            TrialEvents(self._next, self._is_over, self._on_look, self._on_end, self._on_say),
            concurrent=concurrent,
            halving=Halving(scheduler.first_share, scheduler.reduction_factor) if scheduler.name == "asha" else None,
            earlier=LooksSoFar(
                [
                    (f"{look.stage}, seed {trial.seed}", trial.key, look.share, look.score)
                    for trial in self._described
                    for look in self._search.records.read(trial).looks
                ]
            ),
        )

    def _next(self) -> tuple[str, Any] | None:
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
        if late and not self._told_late:
            self._told_late = True
            self._say("the time of budget.hours is over: no further trial begins")
        return late

    def _is_over(self) -> bool:
        return self._is_late() or self._queue.is_empty()

    def _on_look(self, key: str, look: dict[str, Any]) -> None:
        trial = self._running[key]
        record = self._search.records.read(trial)
        self._search.records.write(trial, replace(record, looks=(*record.looks, _look(look))))
        self._say(f"{self._label(trial)}: {look['stage']} at {look['share']:.0%}, score {look['score']:.4g}")

    def _on_end(self, key: str, outcome: dict[str, Any] | None, look: dict[str, Any] | None, died: bool) -> None:
        trial = self._running.pop(key)
        record = self._search.records.read(trial)
        if died:
            record = replace(record, state="failed", cause="the trial's process died; is the memory enough?")
        elif outcome is None and look is not None:
            cause = f"in {look['stage']} at {look['share']:.0%}, score {look['score']:.4g}"
            record = replace(record, state="stopped", cause=cause, looks=(*record.looks, _look(look)))
        elif outcome is None:
            record = replace(record, state="failed", cause="ended without a result")
        elif "cause" in outcome:
            record = replace(record, state="failed", cause=outcome["cause"], seconds=outcome["seconds"])
        elif record.state != "finished":
            record = replace(record, state="failed", cause=f"its evaluation is not at {self._search.store.root}")
        else:
            record = replace(record, seconds=outcome["seconds"])
        self._end(trial, record)
        if record.state == "stopped" and look is not None and look["stage"] == "stage2":
            self._drop_with(trial)

    def _end(self, trial: Trial, record: Record) -> None:
        self._search.records.write(trial, record)
        self._queue.tell(trial, record)
        self._say(f"{self._label(trial)}: {self._describe(trial, record)}")

    def _drop_with(self, stopped: Trial) -> None:
        """End the waiting trials whose generator is the one that was stopped."""
        generator = stopped.run.generator.fingerprint
        for trial in self._queue.drop(lambda other: other.run.generator.fingerprint == generator):
            record = self._search.records.read(trial)
            cause = f"its generator was stopped, in the trial of {stopped.title}"
            self._end(trial, replace(record, state="stopped", cause=cause))

    def _on_say(self, key: str, text: str) -> None:
        if key in self._running and ": already made" not in text:
            self._say(f"{self._label(self._running[key])}: {text}")

    def _label(self, trial: Trial) -> str:
        return f"[{self._described.index(trial) + 1}/{self._total}] {trial.title}"

    def _describe(self, trial: Trial, record: Record) -> str:
        if record.state != "finished":
            return f"{record.state}: {record.cause}"
        figures = self._search.records.read(trial).metrics
        accuracy = (
            f"stage 1 {format_share(figures['stage1_accuracy'])}, stage 3 {format_share(figures['stage3_accuracy'])}"
        )
        return f"finished in {format_seconds(record.seconds)} ({accuracy})"


def _look(look: dict[str, Any]) -> Look:
    return Look(look["stage"], look["share"], look["score"])


def _check_looks(tune: TuneConfig, config: Any) -> None:
    """Refuse early stopping of what cannot be looked at."""
    if tune.scheduler.name == "none":
        return
    for stage, section in (("stage2", "stage1"), ("stage3", "stage3")):
        if stage in tune.scheduler.stages and getattr(config, section).model.name == "linear_probe":
            raise UserError(
                f"{stage} cannot be stopped early with a linear probe",
                where="scheduler.stages",
                fix=f"leave {stage} out",
            )
    if "stage2" in tune.scheduler.stages and not config.evaluation.frechet:
        raise UserError("stage2 needs evaluation.frechet, its proxy", where="scheduler.stages", fix="set it to true")
