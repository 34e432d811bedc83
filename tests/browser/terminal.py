"""Takes a picture of a terminal for the documentation, as SVG: 80 columns, in which a command runs.

    python -m tests.browser.terminal picture.svg --until 'stage 2' -- dpt run --config digits

It needs tmux.
"""

import argparse
import io
import re
import shlex
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 80, 24
POLL_SECONDS = 0.2
_ENDED = "\u2400ended"  # no command prints this


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
    session = f"picture-{uuid.uuid4().hex[:8]}"
    shell = f"{shlex.join(command)}; printf '\\n%s' {_ENDED}; sleep {seconds}"
    subprocess.run(
        ["tmux", "new-session", "-d", "-s", session, "-x", str(COLUMNS), "-y", str(rows), "sh", "-c", shell], check=True
    )
    try:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            screen = _tmux("capture-pane", "-p", "-e", "-t", session)
            if _ENDED in screen or (until is not None and until in _plain(screen)):
                return screen.partition(_ENDED)[0].rstrip()
        raise TimeoutError(f"{until or 'the end'} did not come in {seconds:g} s")
    finally:
        _tmux("send-keys", "-t", session, "C-c")
        _tmux("kill-session", "-t", session)


def to_svg(screen: str, title: str) -> str:
    """Return a screen as SVG that needs no other file.

    Args:
        screen: text with escape sequences.
        title: stands in the bar of the window.
    """
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(screen), no_wrap=True, overflow="crop")
    without_fonts = re.sub(r"@font-face \{\{.*?\}\}\s*|<!--.*?-->\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title=title, code_format=without_fonts, unique_id="terminal")


def _tmux(*arguments: str) -> str:
    return subprocess.run(["tmux", *arguments], capture_output=True, text=True, check=False).stdout


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
