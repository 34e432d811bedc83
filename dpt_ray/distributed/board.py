"""The board: workers of trainings write their progress and events on it, and the driver shows them."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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


@dataclass
class News:
    """What workers wrote of a training since the driver read it last.

    Attributes:
        notes: lines and events.
        resumed: units that the step goes on from; None if it did not begin anew.
        evaluations: share and score of each evaluation (`evaluation_callback.py`).
        rows: rows of the history.
        pictures: images seen and PNG file of each picture (`preview.py`).
    """

    notes: list[str | Event] = field(default_factory=list)
    resumed: int | None = None
    evaluations: list[tuple[float, float]] = field(default_factory=list)
    rows: list[Mapping[str, float]] = field(default_factory=list)
    pictures: list[tuple[int, bytes]] = field(default_factory=list)

    def followed_by(self, later: "News") -> "News":
        """Return these news and later ones."""
        return News(
            self.notes + later.notes,
            self.resumed if later.resumed is None else later.resumed,
            self.evaluations + later.evaluations,
            self.rows + later.rows,
            self.pictures + later.pictures,
        )


class Board:
    """Holds the newest progress of each training, which its workers write; one Ray actor serves a whole job."""

    def __init__(self) -> None:
        self._states: dict[str, TrainingProgress] = {}
        self._news: dict[str, News] = defaultdict(News)
        self._given: dict[str, tuple[int, News]] = {}
        self._stops: dict[str, str] = {}
        self._workers: dict[str, int] = {}
        self._outages: dict[tuple[str, Kind], float] = {}

    def begin(self, title: str) -> None:
        """Forget an earlier training of this title."""
        for kept in (self._states, self._news, self._given, self._stops, self._workers):
            kept.pop(title, None)

    def write(self, title: str, state: TrainingProgress, row: Mapping[str, float] | None = None) -> None:
        """Replace a step's state, and note a row of its history."""
        self._states[title] = state
        if row is not None:
            self._news[title].rows.append(row)

    def take(self, title: str, received: int) -> tuple[int, News]:
        """Return the news of a step and their number.

        Args:
            title: of the step.
            received: number of the news that the reader received last, 0 for none. News that it did not receive, since
                an answer came too late, are given again.
        """
        number, given = self._given.get(title, (0, News()))
        news = self._news.pop(title, News())
        if number != received:
            news = given.followed_by(news)
        self._given[title] = number + 1, news
        return number + 1, news

    def resume(self, title: str, done: int) -> None:
        """Note that a step goes on from `done` units."""
        self._news[title].resumed = done

    def note(self, title: str, what: str | Event) -> None:
        """Note a line or an event that the reader of a step's progress should know.

        Each process that reads notices an outage of the store by itself, so that many tell of the same one.
        """
        if isinstance(what, Event) and what.kind in (STORE_FAILING, STORE_RECOVERED):
            before = self._outages.get((title, what.kind), -math.inf)
            if time.monotonic() - before < SAME_OUTAGE_SECONDS:
                return
            self._outages[title, what.kind] = time.monotonic()
        self._news[title].notes.append(what)

    def start(self, title: str, workers: int) -> None:
        """Note that a number of workers starts."""
        if self._stops.get(title) == GROWTH_REASON:
            del self._stops[title]
        self._workers[title] = workers

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
        self._news[title].evaluations.append((share, score))

    def show(self, title: str, done: int, png: bytes) -> None:
        """Note a picture of a network that has seen `done` images (`preview.py`)."""
        self._news[title].pictures.append((done, png))

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
        self._received, self._answered = 0, True
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
        if exception[0] is None and not self._answered:
            self._show()  # the last news of a training must not depend on one answer

    def _show(self) -> None:
        title = self._line.title
        try:
            answers = self._board.ask(
                (Board.take, (title, self._received)), (Board.read, (title,)), (Board.workers, (title,))
            )
        except ActorLostError:
            self._received = 0
            self._line.warn("the process that collects progress died and is started again; the training continues")
            return
        self._answered = answers is not None
        if answers is None:
            return
        (self._received, news), state, workers = answers
        self._tell(news)
        if workers is not None and workers != self._workers:
            if self._workers is not None:  # the board may have been lost meanwhile
                self._line.report(resized(self._workers, workers))
            self._workers = workers
            self._line.count_workers(workers)
        if state and state != self._shown:
            self._shown = state
            self._line.update(state.done, state.totals, rate=state.rate, loss=state.loss)

    def _tell(self, news: News) -> None:
        for note in news.notes:
            if isinstance(note, Event):
                self._line.report(note)
            else:
                self._line.note(note)
        if news.resumed is not None:
            self._line.resume(news.resumed)
        for row in news.rows:
            self._line.record(row)
        for done, png in news.pictures:
            self._line.show(done, png)
        if self._on_evaluation is not None:
            for share, score in news.evaluations:
                self._on_evaluation(share, score)
