"""A bar on a terminal: one line at any width, with what is printed meanwhile above it. Drawn by rich."""

import sys
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from dpt_ray.text import printable, wrap_lines

BAR_WIDTH = 20
NARROW = 60
"""Columns of a terminal below which details are left out: a few characters of them say nothing."""


class TerminalBar:
    """Title, bar, per cent, time left and details of one piece of work.

    On a narrow terminal the details give way first, then the bar. While it is shown, what the process prints on its
    standard streams appears above it, if these are terminals too.

    Args:
        title: of the work.
        total: units of work.
        stream: a terminal.
    """

    def __init__(self, title: str, total: int, stream: TextIO):
        ours = stream is sys.stderr
        self._total = total
        self._console = Console(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False)
        self._progress = Progress(
            _Words("title"),
            BarColumn(BAR_WIDTH),
            _Words("share"),
            _Words("left"),
            _Words("details", gives_way=True),
            console=self._console,
            auto_refresh=False,
            redirect_stderr=ours,
            redirect_stdout=ours and sys.stdout.isatty(),
        )
        self._task = self._progress.add_task("", total=1.0, title=title, share="", left="", details="")
        self._progress.start()

    @staticmethod
    def is_possible(stream: TextIO) -> bool:
        """Say whether the stream is a terminal on which a line can be drawn over."""
        return stream.isatty() and not Console(file=stream, force_terminal=True).is_dumb_terminal

    def draw(self, done: int, left: str, details: str) -> None:
        """Show that `done` units are finished."""
        share = min(1.0, done / self._total) if self._total else 1.0
        self._progress.update(
            self._task,
            completed=share,
            share=f"{int(100 * share):>3}%",
            left=left,
            details=details if self._console.width >= NARROW else "",
            refresh=True,
        )

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(Text(wrap_lines(printable(text), self._console.width)), soft_wrap=True)

    def close(self) -> None:
        """Leave the bar as it is, and give the terminal back."""
        self._progress.stop()


class _Words(ProgressColumn):
    """A field of a task on one line, cut where it does not fit."""

    def __init__(self, field: str, *, gives_way: bool = False):
        # Rich first shrinks the columns whose text may wrap. The text itself never does.
        super().__init__(Column(no_wrap=not gives_way))
        self._field = field

    def render(self, task: Task) -> Text:
        """Return the field's text."""
        return Text(printable(str(task.fields[self._field])), no_wrap=True, overflow="ellipsis")
