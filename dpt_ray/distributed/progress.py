"""Progress that a person can follow: a bar on a terminal, plain lines in a log."""

import sys
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TextIO

LINE_SECONDS = 10.0
"""Between two plain lines."""


class ProgressLine:
    """Shows one step's progress.

    Args:
        title: the step's name.
        total: units of work.
        unit: their name (plural).
        stream: where to write; a bar if it is a terminal, else lines.
    """

    def __init__(self, title: str, total: int, unit: str, stream: TextIO | None = None):
        self.title, self.total, self.unit = title, total, unit
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._began: float | None = None
        self._first = 0
        self._written = 0.0

    def update(self, done: int, **values: float) -> None:
        """Show that `done` units are finished, with values such as the loss."""
        now = time.monotonic()
        if self._began is None:
            self._began, self._first = now, done
        if self._is_terminal or done >= self.total or now - self._written >= LINE_SECONDS:
            self._written = now
            self._write(self.describe(done, now - self._began, values), done)

    def resume(self, done: int) -> None:
        """Tell that the step goes on from `done` units."""
        self._stream.write(f"{self.title}: goes on from {done:,} {self.unit}\n")
        self._stream.flush()

    def describe(self, done: int, seconds: float, values: dict[str, float]) -> str:
        """Return the text for a state of progress."""
        rate = (done - self._first) / seconds if seconds > 0 else 0.0
        rate = values.pop("rate", rate)
        text = f"{self.title}: {done:,} of {self.total:,} {self.unit}"
        if rate > 0:
            text += f", {rate:,.0f} {self.unit}/s"
        text += "".join(f", {name.replace('_', ' ')} {value:.4g}" for name, value in values.items())
        if rate > 0 and done < self.total:
            text += f", {duration((self.total - done) / rate)} left"
        return text

    def _write(self, text: str, done: int) -> None:
        if self._is_terminal:
            filled = round(20 * min(1.0, done / max(1, self.total)))
            end = "\n" if done >= self.total else ""
            self._stream.write(f"\r\x1b[K[{'#' * filled}{'.' * (20 - filled)}] {text}{end}")
        else:
            self._stream.write(text + "\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """Return seconds in a form for people: 42s, 3m10s, 2h05m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class Board:
    """Where workers write their newest state of progress; one Ray actor serves a whole job."""

    def __init__(self):
        self._states: dict[str, dict[str, Any]] = {}
        self._resumed: dict[str, int] = {}
        self._looks: dict[str, list[tuple[float, float]]] = {}

    def write(self, title: str, state: dict[str, Any]) -> None:
        """Replace a step's state."""
        self._states[title] = state

    def resume(self, title: str, done: int) -> None:
        """Note that a step goes on from `done` units."""
        self._resumed[title] = done

    def take_resumed(self, title: str) -> int | None:
        """Return, once, where a step went on from."""
        return self._resumed.pop(title, None)

    def look(self, title: str, share: float, score: float) -> None:
        """Note a look at a training (`looks.py`)."""
        self._looks.setdefault(title, []).append((share, score))

    def take_looks(self, title: str) -> list[tuple[float, float]]:
        """Return, once, the looks at a training."""
        return self._looks.pop(title, [])

    def read(self, title: str) -> dict[str, Any] | None:
        """Return a step's newest state."""
        return self._states.get(title)


@lru_cache(maxsize=1)
def job_board() -> Any:
    """Return the handle of this job's board, started at first use."""
    import ray

    return ray.remote(num_cpus=0, scheduling_strategy="DEFAULT")(Board).remote()


class BoardWatcher:
    """Shows on a `ProgressLine` what workers write on a `Board`, from a thread, while the caller waits.

    Args:
        line: where to show it.
        on_look: is given share and score of each look at the training.
    """

    def __init__(self, line: ProgressLine, on_look: Callable[[float, float], None] | None = None):
        self.board = job_board()
        self._line, self._on_look = line, on_look
        self._shown: dict[str, Any] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "BoardWatcher":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        if exception[0] is None:
            self._show()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self._show()

    def _show(self) -> None:
        import ray

        title = self._line.title
        resumed, state, looks = ray.get(
            [self.board.take_resumed.remote(title), self.board.read.remote(title), self.board.take_looks.remote(title)]
        )
        if resumed is not None:
            self._line.resume(resumed)
        if state and state != self._shown:
            self._shown = dict(state)
            self._line.update(state.pop("done"), **state)
        for share, score in looks if self._on_look else ():
            self._on_look(share, score)
