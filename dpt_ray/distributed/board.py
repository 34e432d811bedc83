"""The board: workers of trainings write their progress and events on it, and the driver shows them."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from dpt_ray.distributed.background import RepeatedCall
from dpt_ray.distributed.events import STORE_FAILING, STORE_RECOVERED, Event, Kind, resized
from dpt_ray.distributed.metrics import Metric
from dpt_ray.distributed.notice import GROWTH_REASON
from dpt_ray.distributed.progress import ProgressLine
from dpt_ray.distributed.watching_actor import ActorLostError, KeptActor, Mailbox

SHOW_SECONDS = 0.5
"""Between two questions to the board."""
SAME_OUTAGE_SECONDS = 10.0
"""Between two lines of the begin, or of the end, of outages of the store."""


@dataclass(frozen=True)
class TrainingProgress:
    """The progress of a training at a row of its history.

    Attributes:
        done: images seen.
        rate: images per second.
        loss: loss of the row.
        totals: counters of the training so far.
    """

    done: int
    rate: float
    loss: float
    totals: Mapping[Metric, float]


class Board:
    """Holds the newest progress of each training, which its workers write; one Ray actor serves a whole job."""

    def __init__(self) -> None:
        self._states: dict[str, TrainingProgress] = {}
        self._resumed: dict[str, int] = {}
        self._notes: dict[str, list[str | Event]] = {}
        self._stops: dict[str, str] = {}
        self._workers: dict[str, int] = {}
        self._evaluations: dict[str, list[tuple[float, float]]] = {}
        self._rows: dict[str, list[Mapping[str, float]]] = {}
        self._pictures: dict[str, list[tuple[int, bytes]]] = {}
        self._outages: dict[tuple[str, Kind], float] = {}

    def begin(self, title: str) -> None:
        """Forget an earlier training of this title."""
        for kept in (self._states, self._resumed, self._notes, self._evaluations, self._rows, self._pictures):
            kept.pop(title, None)
        self._stops.pop(title, None)
        self._workers.pop(title, None)

    def write(self, title: str, state: TrainingProgress, row: Mapping[str, float] | None = None) -> None:
        """Replace a step's state, and add a row to what `take_rows` returns."""
        self._states[title] = state
        if row is not None:
            self._rows.setdefault(title, []).append(row)

    def take_rows(self, title: str) -> list[Mapping[str, float]]:
        """Return, once, the new rows of a training's history."""
        return self._rows.pop(title, [])

    def resume(self, title: str, done: int) -> None:
        """Note that a step goes on from `done` units."""
        self._resumed[title] = done

    def take_resumed(self, title: str) -> int | None:
        """Return, once, where a step went on from."""
        return self._resumed.pop(title, None)

    def note(self, title: str, what: str | Event) -> None:
        """Note a line or an event that the reader of a step's progress should know.

        Each process that reads notices an outage of the store by itself, so that many tell of the same one.
        """
        if isinstance(what, Event) and what.kind in (STORE_FAILING, STORE_RECOVERED):
            before = self._outages.get((title, what.kind), -math.inf)
            if time.monotonic() - before < SAME_OUTAGE_SECONDS:
                return
            self._outages[title, what.kind] = time.monotonic()
        self._notes.setdefault(title, []).append(what)

    def take_notes(self, title: str) -> list[str | Event]:
        """Return, once, what was noted of a step."""
        return self._notes.pop(title, [])

    def start(self, title: str, workers: int) -> None:
        """Note that a number of workers starts, and an event if it was another one before."""
        if self._stops.get(title) == GROWTH_REASON:
            del self._stops[title]
        before = self._workers.setdefault(title, workers)
        if before != workers:
            self._workers[title] = workers
            self.note(title, resized(before, workers))

    def workers(self, title: str) -> int | None:
        """Return with how many workers a training runs; None before their first start."""
        return self._workers.get(title)

    def stop(self, title: str, reason: str) -> None:
        """Let the workers of a training store a checkpoint and stop.

        Args:
            title: of the training.
            reason: why, as a clause.
        """
        self._stops[title] = reason

    def stop_reason(self, title: str) -> str | None:
        """Return why the workers of a training shall stop; None if they shall not."""
        return self._stops.get(title)

    def note_evaluation(self, title: str, share: float, score: float) -> None:
        """Note an evaluation of a training (`evaluation_callback.py`)."""
        self._evaluations.setdefault(title, []).append((share, score))

    def take_evaluations(self, title: str) -> list[tuple[float, float]]:
        """Return, once, the evaluations of a training: share and score of each."""
        return self._evaluations.pop(title, [])

    def show(self, title: str, done: int, png: bytes) -> None:
        """Note a picture of a network that has seen `done` images (`preview.py`)."""
        self._pictures.setdefault(title, []).append((done, png))

    def take_pictures(self, title: str) -> list[tuple[int, bytes]]:
        """Return, once, the pictures of a training: images seen and PNG file of each."""
        return self._pictures.pop(title, [])

    def read(self, title: str) -> TrainingProgress | None:
        """Return a step's newest state."""
        return self._states.get(title)


def job_board() -> KeptActor:
    """Return this job's board, started at first use."""
    import ray

    return _board_of(ray.get_runtime_context().get_job_id(), ray.get_runtime_context().gcs_address)


@lru_cache(maxsize=1)
def _board_of(job: str, cluster: str) -> KeptActor:
    return KeptActor(Board)


class BoardWatcher:
    """Shows on a `ProgressLine` what workers write on a `Board`, from a thread, while the caller waits.

    If the board dies, a new one is started, and what was not shown yet is lost.

    Args:
        line: where to show it.
        on_evaluation: called with share and score of each evaluation of the training.
    """

    def __init__(self, line: ProgressLine, on_evaluation: Callable[[float, float], None] | None = None):
        self._board = job_board()
        self._line, self._on_evaluation = line, on_evaluation
        self._shown: TrainingProgress | None = None
        self._workers: int | None = None
        self._repeated = RepeatedCall(self._show, SHOW_SECONDS)

    @property
    def mailbox(self) -> Mailbox:
        """Sends messages of workers to the board."""
        return self._board.mailbox

    def __enter__(self) -> "BoardWatcher":
        self.mailbox.send(Board.begin, self._line.title)
        self._repeated.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._repeated.__exit__(*exception)

    def _show(self) -> None:
        title = (self._line.title,)
        questions = (
            Board.take_notes,
            Board.take_resumed,
            Board.read,
            Board.take_evaluations,
            Board.take_rows,
            Board.take_pictures,
            Board.workers,
        )
        try:
            answers = self._board.ask(*((question, title) for question in questions))
        except ActorLostError:
            self._line.warn("the process that collects progress died and is started again; the training continues")
            return
        if answers is None:
            return
        notes, resumed, state, evaluations, rows, pictures, workers = answers
        for note in notes:
            if isinstance(note, Event):
                self._line.report(note)
            else:
                self._line.note(note)
        if resumed is not None:
            self._line.resume(resumed)
        if workers is not None and workers != self._workers:
            self._workers = workers
            self._line.count_workers(workers)
        for row in rows:
            self._line.record(row)
        for done, png in pictures:
            self._line.show(done, png)
        if state and state != self._shown:
            self._shown = state
            self._line.update(state.done, state.totals, rate=state.rate, loss=state.loss)
        if self._on_evaluation is not None:
            for share, score in evaluations:
                self._on_evaluation(share, score)
