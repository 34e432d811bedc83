"""The records of trials in the folder of a search, from which the same command continues."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from dpt_ray.data.storage import json_records, stores
from dpt_ray.experiments.search.space import Point, Trial
from dpt_ray.json_values import Json, JsonObject
from dpt_ray.pipeline.artifacts.store import ArtifactStore

_TRIALS = "trials"
_OLD_REPORTS = "looks"
"""Former name of the field `reports` in stored records."""

State = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True)
class StageReport(json_records.Record):
    """A report of a training to the scheduler.

    Attributes:
        stage: the stage that trains.
        share: share of the training that is done, in (0, 1].
        score: result of the evaluation; higher is better.
    """

    stage: str
    share: float
    score: float


@dataclass(frozen=True)
class Record(json_records.Record):
    """The state and the figures of a trial.

    Attributes:
        point: dotted setting -> value.
        seed: seed of the run.
        state: finished, stopped early, or failed. None while the trial runs, or if it was interrupted.
        cause: why it was stopped or failed, in one line.
        metrics: facts of the evaluation of a finished trial, and `gain`. `measured` returns one of them as a number.
        reports: reports of its trainings to the scheduler.
        rules: settings of the scheduler.
        seconds: duration, with the time spent waiting for artifacts that other trials make.
    """

    point: Point
    seed: int
    state: State | None = None
    cause: str | None = None
    metrics: JsonObject = field(default_factory=dict)
    reports: tuple[StageReport, ...] = ()
    rules: JsonObject = field(default_factory=dict)
    seconds: float | None = None


class Records:
    """The records of a search, one file a trial.

    Args:
        root: folder or URL of the results.
        name: name of the search.
        rules: settings of the scheduler. A trial that other settings stopped counts as not run.
    """

    def __init__(self, root: str, name: str, rules: JsonObject):
        self._store = ArtifactStore(root)
        self.folder = stores.join(self._store.root, "searches", name)
        self._rules = rules

    def read(self, trial: Trial) -> Record:
        """Return the record of a trial. Its figures are those of its evaluation, even if another command made that.

        Raises:
            UserError: the stored record is of another form.
        """
        url = self._url(trial)
        record = self._blank(trial)
        if stores.exists(url):
            record = replace(_stored(url), point=trial.point)  # JSON has lists where a point has tuples
        evaluation = self._store.find(trial.run.evaluation.name, trial.key)
        if evaluation is not None:
            return replace(record, state="finished", cause=None, metrics=with_gain(evaluation.facts))
        if record.state == "finished" or (record.state == "stopped" and record.rules != self._rules):
            record = replace(record, state=None, cause=None, metrics={})  # its evaluation was removed, or other rules
        return replace(record, rules=self._rules)

    def read_all(self, trials: Iterable[Trial]) -> list[Record]:
        """Return the records of many trials. Two listings show which have none, so that these cost no request each."""
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
        """Write the record of a trial."""
        stores.write_json(self._url(trial), record.to_json())

    def _blank(self, trial: Trial) -> Record:
        return Record(trial.point, trial.seed, rules=self._rules)

    def _url(self, trial: Trial) -> str:
        return stores.join(self.folder, _TRIALS, f"{trial.key}.json")


def _stored(url: str) -> Record:
    values = stores.read_json(url)
    if isinstance(values, dict) and _OLD_REPORTS in values:
        values["reports"] = values.pop(_OLD_REPORTS)
    return Record.from_json(values, url, "the record of a trial", "remove the file, and the trial runs again")


def with_gain(metrics: Mapping[str, Json]) -> dict[str, Json]:
    """Return the facts of an evaluation and `gain`: accuracy of stage 3 minus that of stage 1, None without both."""
    stage1, stage3 = measured(metrics.get("stage1_accuracy")), measured(metrics.get("stage3_accuracy"))
    return {**metrics, "gain": None if stage1 is None or stage3 is None else stage3 - stage1}


def measured(value: Any) -> float | None:
    """Return a figure, None if it was not measured: absent, not a number, or not finite."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None
