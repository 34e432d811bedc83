"""Takes a picture of a terminal for the documentation, as SVG: 80 columns, in which a command runs.

    python -m tests.browser.terminal picture.svg --until 'stage 2' -- dpt run --config digits

It needs tmux.
"""

import argparse
import io
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 80, 24
LONGEST_TITLE = 60
"""Characters that fit between the buttons of the window's bar."""
POLL_SECONDS = 0.2
KEPT_SECONDS = 3600
"""Time for which the terminal stays after the command's end."""
_ENDED = "\u2400ended"  # no command prints this


class Terminal:
    """A terminal in which a command runs; the end of the context ends the command.

    Each has a tmux server of its own: a shared one ends with its last session, while another may begin.

    Args:
        command: the command.
        folder: where it runs; None for the present folder.
        rows: lines of the terminal.
    """

    def __init__(self, command: Sequence[str], folder: Path | None = None, rows: int = ROWS):
        self._server = tempfile.TemporaryDirectory(prefix="tmux")
        shell = f"{shlex.join(command)}; printf '\\n%s%s' $? {_ENDED}; sleep {KEPT_SECONDS}"
        place = [] if folder is None else ["-c", str(folder)]
        size = ["-x", str(COLUMNS), "-y", str(rows)]
        self._tmux("new-session", "-d", *place, *size, "sh", "-c", shell, check=True)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *exception: object) -> None:
        self._tmux("send-keys", "C-c")
        self._tmux("kill-server")
        self._server.cleanup()

    def screen(self) -> str:
        """Return what stands there, with escape sequences of colours."""
        return re.sub(rf"\s*\d+{_ENDED}", "", self._capture()).rstrip()

    def text(self) -> str:
        """Return what stands there and what was there before, without colours."""
        return re.sub(rf"\s*\d+{_ENDED}\s*$", "\n", self._tmux("capture-pane", "-p", "-J", "-S", "-"))

    def status(self) -> int | None:
        """Return the exit status of the command; None while it runs."""
        ended = re.search(rf"(\d+){_ENDED}", _plain(self._capture()))
        return int(ended[1]) if ended else None

    def wait(self, until: Callable[[], bool], seconds: float) -> None:
        """Wait until something holds, or the command has ended.

        Raises:
            TimeoutError: neither came in time.
        """
        deadline = time.monotonic() + seconds
        while not until() and self.status() is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"neither that nor the end of the command came in {seconds:g} s")
            time.sleep(POLL_SECONDS)

    def _capture(self) -> str:
        return self._tmux("capture-pane", "-p", "-e")

    def _tmux(self, *arguments: str, check: bool = False) -> str:
        command = ["tmux", "-S", f"{self._server.name}/socket", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=check).stdout


def record(command: Sequence[str], *, until: str | None = None, rows: int = ROWS, seconds: float = 3600) -> str:
    """Run a command in a terminal and return what stands there, with escape sequences of colours.

    Args:
        command: the command.
        until: text on the screen at which the picture is taken, and the command is ended; without it, at its end.
        rows: lines of the terminal.
        seconds: longest time to wait.

    Raises:
        TimeoutError: the text did not appear, or the command did not end.
    """
    screen = ""
    with Terminal(command, rows=rows) as terminal:

        def shows_it() -> bool:
            nonlocal screen
            screen = terminal.screen()
            return until is not None and until in _plain(screen)

        terminal.wait(shows_it, seconds)
        return screen if until is not None and until in _plain(screen) else terminal.screen()


def to_svg(screen: str, title: str) -> str:
    """Return a screen as SVG that needs no other file.

    Args:
        screen: text with escape sequences.
        title: stands in the bar of the window.
    """
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(screen), no_wrap=True, overflow="crop")
    title = title if len(title) <= LONGEST_TITLE else f"{title[:LONGEST_TITLE].rstrip()} …"
    without_fonts = re.sub(r"@font-face \{\{.*?\}\}\s*|<!--.*?-->\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title=title, code_format=without_fonts, unique_id="terminal")


def _plain(screen: str) -> str:
    return Text.from_ansi(screen).plain


def main() -> None:
    """Take the picture that the command line wants."""
    parser = argparse.ArgumentParser(description="Take a picture of a terminal in which a command runs.")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--until", help="take it when this text stands in the terminal")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    screen = record(given.command, until=given.until, rows=given.rows)
    given.picture.write_text(to_svg(screen, shlex.join(given.command)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
