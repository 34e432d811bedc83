"""What became of each trial: kept in the search's folder, so that the same command goes on."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from dpt_ray.data.storage import stores
from dpt_ray.experiments.search.space import Point, Trial
from dpt_ray.pipeline.artifacts.store import ArtifactStore

_TRIALS = "trials"

State = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True)
class Look:
    """A training as it was on its way: which one, after which share of it, and its score (higher is better)."""

    stage: str
    share: float
    score: float


@dataclass(frozen=True)
class Record:
    """What became of a trial.

    Attributes:
        point, seed: what it tried.
        state: finished; stopped early; failed. None while it runs, or if it was interrupted.
        cause: why it was stopped or failed, in one line.
        metrics: of a finished one, the figures of the evaluation, and `gain`.
        looks: on its trainings, for early stopping.
        rules: the early stopping that it was held against.
        seconds: how long it took, waiting for others' artifacts included.
    """

    point: Point
    seed: int
    state: State | None = None
    cause: str | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    looks: tuple[Look, ...] = ()
    rules: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None


class Records:
    """The records of a search, one file a trial.

    Args:
        root: where results are.
        name: the search's name.
        rules: its early stopping; a trial that was stopped by other rules counts as not run.
    """

    def __init__(self, root: str, name: str, rules: dict[str, Any]):
        self._store = ArtifactStore(root)
        self.folder = stores.join(self._store.root, "searches", name)
        self._rules = rules

    def read(self, trial: Trial) -> Record:
        """Return what is known of a trial. Its figures are those of its evaluation, whoever made that."""
        url = self._url(trial)
        record = self._blank(trial)
        if stores.exists(url):
            stored = stores.read_json(url)
            looks = tuple(Look(**look) for look in stored.pop("looks"))
            record = Record(**{**stored, "looks": looks, "point": trial.point})
        evaluation = self._store.find(trial.run.evaluation.name, trial.key)
        if evaluation is not None:
            return replace(record, state="finished", cause=None, metrics=with_gain(evaluation.facts))
        if record.state == "finished" or (record.state == "stopped" and record.rules != self._rules):
            record = replace(record, state=None, cause=None, metrics={})  # its evaluation was removed, or other rules
        return replace(record, rules=self._rules)

    def read_all(self, trials: Iterable[Trial]) -> list[Record]:
        """Return what is known of many trials, without a look for each at what two listings show to be absent."""
        recorded = {file["name"] for file in stores.list_files(stores.join(self.folder, _TRIALS))}
        evaluated: dict[str, set[str]] = {}
        records = []
        for trial in trials:
            kind = trial.run.evaluation.name
            if kind not in evaluated:
                evaluated[kind] = set(self._store.folders(kind))
            is_known = trial.key in evaluated[kind] or f"{trial.key}.json" in recorded
            records.append(self.read(trial) if is_known else self._blank(trial))
        return records

    def write(self, trial: Trial, record: Record) -> None:
        """Keep what is known of a trial."""
        stores.write_json(self._url(trial), asdict(record))

    def _blank(self, trial: Trial) -> Record:
        return Record(trial.point, trial.seed, rules=self._rules)

    def _url(self, trial: Trial) -> str:
        return stores.join(self.folder, _TRIALS, f"{trial.key}.json")


def with_gain(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return an evaluation's figures and what stage 3 added, where both accuracies were measured."""
    stage1, stage3 = measured(metrics.get("stage1_accuracy")), measured(metrics.get("stage3_accuracy"))
    return {**metrics, "gain": None if stage1 is None or stage3 is None else stage3 - stage1}


def measured(value: Any) -> float | None:
    """Return a figure, None if it was not measured: absent, not a number, or not finite."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None
