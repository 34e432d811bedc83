"""What the folder of a run says of it: how it was started, and how it ended.

`<root>/runs/<name>/<id>/` exists from the start of a run. The id is the time of the start in UTC, so ids sort by age.
`<root>/runs/<name>/` itself holds a copy of the newest finished run's report, settings and list of artifacts.
"""

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dpt_ray.data.storage.json_records import Record, optional

RUNS = "runs"
STARTED_FILE, ENDED_FILE, NEWEST_FILE = "started.json", "ended.json", "newest.json"
LOG_FILE, METRICS_FILE = "log.txt", "metrics.jsonl"
_ID = re.compile(r"\d{8}-\d{6}-\d{3}")

Outcome = Literal["finished", "failed", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class RunStart(Record):
    """The content of `started.json`, written before anything runs.

    Attributes:
        started: ISO 8601 time, UTC.
        command: the words of the command line, without secrets.
        commit: commit of the source checkout, with `+changes` if files differ from it; None for an installed package.
        software: versions of what computes results.
        artifacts: for each id of a requested step the address of its artifact.
        needs: addresses of all artifacts that the run makes or uses, each after those that it builds on.
    """

    started: str
    command: tuple[str, ...]
    commit: str | None = optional()
    software: dict[str, str]
    artifacts: dict[str, str]
    needs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RunEnd(Record):
    """The content of `ended.json`. A killed run has none.

    Attributes:
        outcome: how the run ended.
        ended: ISO 8601 time, UTC.
        seconds: duration.
        message: the error in one line; None for a run that finished.
        figures: of the evaluation, by the ids of its metrics.
    """

    outcome: Outcome
    ended: str
    seconds: float
    message: str | None = optional()
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Newest(Record):
    """The content of `newest.json`, which says whose report lies in the folder of a name.

    Attributes:
        run: id of the run.
    """

    run: str


def run_id(start: datetime.datetime) -> str:
    """Return the id of a run that starts at a time, to the millisecond."""
    start = start.astimezone(datetime.UTC)
    return f"{start:%Y%m%d-%H%M%S}-{start.microsecond // 1000:03d}"


def is_run_id(name: str) -> bool:
    """Whether a folder of this name in the folder of a run's name is a run."""
    return _ID.fullmatch(name) is not None


def time_of(id: str) -> datetime.datetime | None:
    """Return the start of a run from its id, UTC; None if the id is no time."""
    try:
        return datetime.datetime.strptime(f"{id}000", "%Y%m%d-%H%M%S-%f").replace(tzinfo=datetime.UTC)
    except ValueError:
        return None


def root_of(folder: str) -> str:
    """Return the root of the results from the folder of a run."""
    return folder.rstrip("/").rpartition(f"/{RUNS}/")[0]
