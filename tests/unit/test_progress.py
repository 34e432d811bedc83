"""Progress: a bar on a terminal, sparse lines in a log, and numbers that are right."""

import io
import re

import pytest

from dpt_ray.distributed import progress
from dpt_ray.distributed.progress import LINE_SECONDS, Board, ProgressLine
from dpt_ray.tables import duration


class Stream(io.StringIO):
    """Somewhere to write that is a terminal or is not."""

    def __init__(self, terminal: bool):
        super().__init__()
        self.terminal, self.flushed = terminal, 0

    def isatty(self) -> bool:
        return self.terminal

    def flush(self) -> None:
        self.flushed = len(self.getvalue())


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(progress.time, "monotonic", fake)
    return fake


def log_line(total: int = 1000, title: str = "[2/9] labels", **options) -> tuple[ProgressLine, Stream]:
    stream = Stream(terminal=False)
    return ProgressLine(title, total, "images", stream, **options), stream


def terminal_line(total: int = 1000, title: str = "[2/9] labels") -> tuple[ProgressLine, Stream]:
    stream = Stream(terminal=True)
    return ProgressLine(title, total, "images", stream), stream


def test_a_log_gets_plain_lines_and_not_more_than_one_in_ten_seconds(clock):
    line, stream = log_line()
    for second in range(25):
        clock.now = 1000.0 + second
        line.update(10 * second)
    lines = stream.getvalue().splitlines()
    assert lines == [
        "[2/9] labels: 0 of 1,000 images",
        "[2/9] labels: 100 of 1,000 images, 10 images/s, 1m30s left",
        "[2/9] labels: 200 of 1,000 images, 10 images/s, 1m20s left",
    ]
    assert LINE_SECONDS == 10
    assert stream.flushed == len(stream.getvalue())


def test_a_log_gets_the_end_at_once(clock):
    line, stream = log_line()
    line.update(0)
    clock.now += 2
    line.update(1000)
    assert stream.getvalue().splitlines()[-1] == "[2/9] labels: 1,000 of 1,000 images, 500 images/s"
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_gets_a_bar_that_is_redrawn_in_place_and_ended_once(clock):
    line, stream = terminal_line(total=200)
    for done in (0, 50, 100, 200):
        line.update(done)
        clock.now += 1
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("\n")
    drawn = stream.getvalue().rstrip("\n").split("\r\x1b[K")
    assert drawn[0] == ""
    assert [re.match(r"\[(#*)(\.*)\] ", text).span(1) for text in drawn[1:]] == [(1, 1), (1, 6), (1, 11), (1, 21)]
    assert drawn[3] == "[##########..........] [2/9] labels: 100 of 200 images, 50 images/s, 2s left"


@pytest.mark.parametrize("title", ["plain", "[1/2] a: b: c", "12 of 3: x", "", "1,000: "])
def test_any_title_can_have_a_bar(title):
    line, stream = terminal_line(total=10, title=title)
    line.update(5)
    assert stream.getvalue() == f"\r\x1b[K[##########..........] {title}: 5 of 10 images"


def test_more_than_everything_and_nothing_at_all_fill_the_bar(clock):
    line, stream = terminal_line(total=10)
    line.update(15)
    assert f"[{'#' * 20}]" in stream.getvalue()
    line, stream = terminal_line(total=0)
    line.update(0)
    assert stream.getvalue().endswith("0 of 0 images\n")


def test_the_rate_counts_what_was_done_since_the_first_sight_of_it(clock):
    line, stream = log_line()
    line.update(600)  # resumed: 600 were done before
    clock.now += 20
    line.update(800)
    assert stream.getvalue().splitlines() == [
        "[2/9] labels: 600 of 1,000 images",
        "[2/9] labels: 800 of 1,000 images, 10 images/s, 20s left",
    ]


def test_a_given_rate_replaces_the_measured_one_and_values_follow_it():
    line, _ = log_line()
    text = line.describe(400, 10.0, {"rate": 1500.4, "loss": 0.123456, "mask_share": 0.5})
    assert text == "[2/9] labels: 400 of 1,000 images, 1,500 images/s, loss 0.1235, mask share 0.5, 0s left"


def test_without_time_or_progress_there_is_no_rate_and_no_forecast():
    line, _ = log_line()
    assert line.describe(0, 0.0, {}) == "[2/9] labels: 0 of 1,000 images"
    assert line.describe(0, 5.0, {"rate": 0.0}) == "[2/9] labels: 0 of 1,000 images"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.4, "0s"),
        (42, "42s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (60, "1m00s"),
        (190, "3m10s"),
        (3599.4, "59m59s"),
        (3599.6, "1h00m"),
        (7500, "2h05m"),
        (7559, "2h05m"),
        (360_000, "100h00m"),
    ],
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text


def test_progress_goes_to_standard_error_by_default(capsys):
    ProgressLine("title", 1, "shards").update(1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "title: 1 of 1 shards\n"


def test_a_board_keeps_the_newest_state_of_each_step():
    board = Board()
    assert board.read("a") is None
    board.write("a", {"done": 1})
    board.write("b", {"done": 5})
    board.write("a", {"done": 2})
    assert board.read("a") == {"done": 2}
    assert board.read("b") == {"done": 5}
