"""Lines on a terminal break between words; nowhere else do they break."""

import io

import pytest

from dpt_ray.distributed.job_log import tell
from dpt_ray.text import wrap_lines

ROW = "stage 1 accuracy        100.0%  120 held-out images, 95% interval 96.9% to 100.0%"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_row_of_a_table_continues_below_its_last_column():
    assert wrap_lines(ROW, 60).split("\n") == [
        "stage 1 accuracy        100.0%  120 held-out images, 95%",
        " " * 32 + "interval 96.9% to 100.0%",
    ]


def test_a_sentence_continues_indented_and_a_path_stays_whole():
    path = "/home/" + "x" * 40
    assert wrap_lines(f"the report of the run is at {path}", 30).split("\n") == [
        "the report of the run is at",
        f"    {path}",
    ]
    assert wrap_lines("short\n\n  indented", 30) == "short\n\n  indented"


@pytest.mark.parametrize("width", range(20, 100, 7))
def test_no_word_is_lost_and_no_line_too_long(width):
    lines = wrap_lines(ROW, width).split("\n")
    assert " ".join(lines).split() == ROW.split()
    assert max(map(len, lines)) <= width


def test_only_terminals_get_broken_lines(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.delenv("DPT_LOG_FORMAT", raising=False)
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        tell(ROW, stream=stream)
    assert file.getvalue() == ROW + "\n"
    assert max(map(len, terminal.getvalue().splitlines())) <= 40
