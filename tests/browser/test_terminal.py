"""Pictures of a terminal: what stands there, in its colours, and nothing from elsewhere."""

import shutil
import sys

import pytest

from tests.browser.terminal import COLUMNS, record, to_svg

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")


def test_a_picture_has_the_last_screen_of_a_command():
    screen = record([sys.executable, "-c", "print('\\033[32mgreen\\033[0m & <b>')"])
    svg = to_svg(screen, "a command")
    assert "green" in svg
    assert "&lt;b&gt;" in svg.replace("&#160;", " ")
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")


def test_it_is_taken_when_a_text_appears():
    loop = "import time\nfor n in range(10**6): print('row', n, flush=True); time.sleep(0.3)"
    screen = record([sys.executable, "-c", loop], until="row 7", rows=5)
    assert "row 7" in screen
    assert max(map(len, screen.splitlines())) <= COLUMNS
