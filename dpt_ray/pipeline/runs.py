"""The runs below a root: what is known of each, from the files in its folder."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dpt_ray.data.storage import stores
from dpt_ray.data.storage.documents import read_document
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.claims import is_held
from dpt_ray.pipeline.artifacts.evaluation import EvaluationFacts, described_metrics
from dpt_ray.pipeline.artifacts.run import RUN_FILE, read_addresses
from dpt_ray.pipeline.artifacts.run_record import (
    ENDED_FILE,
    NEWEST_FILE,
    RUNS,
    STARTED_FILE,
    RunEnd,
    RunStart,
    is_run_id,
    root_of,
    time_of,
)
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore

State = Literal["running", "finished", "failed", "interrupted", "stopped", "damaged"]


@dataclass(frozen=True)
class RunSummary:
    """What is known of a run.

    Attributes:
        name: the setting `name`.
        id: tells runs of one name apart; None for a run of an earlier version, whose files lie in the name's folder.
        url: its folder.
        state: `stopped` is a run whose process ended without a word, `damaged` one whose files cannot be read.
        started: when, UTC; for a run of an earlier version, when its report was written; None if that is unknown.
        seconds: duration of a run that ended; None for others.
        message: why it did not finish, in one line.
        command: the words of the command line.
        commit: commit of the source checkout.
        software: versions of what computed it.
        artifacts: for each id of a requested step the address of its artifact, `<step>/<fingerprint>`.
        needs: addresses of all that the run makes or uses, as it was planned at the start.
        figures: of the evaluation, by the ids of its metrics; empty if there is none.
    """

    name: str
    id: str | None
    url: str
    state: State
    started: datetime.datetime | None = None
    seconds: float | None = None
    message: str | None = None
    command: tuple[str, ...] = ()
    commit: str | None = None
    software: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What the commands call it: `<name>/<id>`, or the name alone for a run of an earlier version."""
        return self.name if self.id is None else f"{self.name}/{self.id}"


def list_runs(root: str) -> list[RunSummary]:
    """Return all runs below a root, by name, and the oldest first within a name.

    A run whose files cannot be read is in the list, with the state `damaged`.

    Raises:
        UserError: the store cannot be listed.
    """
    folder = stores.join(stores.absolute_url(root), RUNS)
    return [run for name in stores.list_folders(folder) for run in runs_of_name(root, name)]


def runs_of_name(root: str, name: str) -> list[RunSummary]:
    """Return the runs of a name, the oldest first; an empty list if there are none.

    Raises:
        UserError: the store cannot be listed.
    """
    folder = stores.join(stores.absolute_url(root), RUNS, name)
    ids = [id for id in stores.list_folders(folder) if is_run_id(id)]
    runs = [_described(name, id, stores.join(folder, id)) for id in ids]
    if holds_earlier_run(folder):
        runs.insert(0, _described(name, None, folder))
    return runs


def holds_earlier_run(folder: str) -> bool:
    """Whether the folder of a name holds a run itself, as earlier versions wrote it."""
    return stores.exists(stores.join(folder, RUN_FILE)) and not stores.exists(stores.join(folder, NEWEST_FILE))


def find_run(root: str, reference: str) -> RunSummary:
    """Return a run.

    Args:
        root: of the results.
        reference: `<name>` for the newest run of a name, or `<name>/<id>`; the beginning of an id is enough.

    Raises:
        UserError: there is no such run, or several ids begin so.
    """
    name, _, id = reference.strip("/").partition("/")
    runs = runs_of_name(root, name) if name else []
    if not runs:
        names = stores.list_folders(stores.join(stores.absolute_url(root), RUNS))
        known = f"there are: {', '.join(names[:10])}" if names else "there are none"
        raise UserError(f"there is no run {reference!r}", where=root, fix=known)
    if not id:
        return runs[-1]
    found = [run for run in runs if run.id is not None and run.id.startswith(id)]
    if len(found) != 1:
        what = f"there is no run {reference!r}" if not found else f"{len(found)} runs begin with {reference!r}"
        raise UserError(what, where=root, fix=f"runs of {name}: {', '.join(run.title for run in runs[-5:])}")
    return found[0]


def _described(name: str, id: str | None, url: str) -> RunSummary:
    try:
        return _earlier(name, url) if id is None else _recorded(name, id, url)
    except UserError as error:
        return RunSummary(name, id, url, "damaged", time_of(id or ""), message=str(error))


def _recorded(name: str, id: str, url: str) -> RunSummary:
    if not stores.exists(stores.join(url, STARTED_FILE)):  # an earlier version's run, moved here, or an empty folder
        return _earlier(name, url, id)
    start: RunStart = read_document(stores.join(url, STARTED_FILE), RunStart, "the start of a run")
    place = stores.join(url, ENDED_FILE)
    running = is_held(url)  # before the end is looked for: a run that ends in between has ended
    end: RunEnd | None = read_document(place, RunEnd, "the end of a run") if stores.exists(place) else None
    return RunSummary(
        name,
        id,
        url,
        end.outcome if end else "running" if running else "stopped",
        time_of(id),
        end.seconds if end else None,
        end.message if end else None,
        start.command,
        start.commit,
        start.software,
        start.artifacts,
        start.needs,
        end.figures if end else {},
    )


def _earlier(name: str, url: str, id: str | None = None) -> RunSummary:
    place = stores.join(url, RUN_FILE)
    if not stores.exists(place):
        return RunSummary(name, id, url, "running" if is_held(url) else "stopped", time_of(id or ""))
    addresses = read_addresses(url)
    step, _, address = addresses.get("evaluation", "").partition("/")
    evaluation = ArtifactStore(root_of(url)).find(step, address) if address else None
    return RunSummary(
        name,
        id,
        url,
        "finished",
        time_of(id) if id else stores.changed_at(place),
        software=evaluation.software if evaluation else {},
        artifacts=addresses,
        figures=figures_of(evaluation) if evaluation else {},
    )


def figures_of(evaluation: Artifact) -> dict[str, float]:
    """Return the figures of an evaluation that are known, by the ids of its metrics."""
    return {metric.id: metric.value for metric in described_metrics(EvaluationFacts.read(evaluation))}
