"""Progress: a bar on a terminal, sparse lines in a log, and numbers that are right."""

import io
import re
import sys

import pytest
from rich.cells import cell_len

from dpt_ray.distributed import progress
from dpt_ray.distributed.board import Board, TrainingProgress
from dpt_ray.distributed.progress import BAR_SECONDS, LINE_SECONDS, ProgressLine
from dpt_ray.tables import duration
from dpt_ray.text import printable


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


@pytest.fixture(autouse=True)
def _able_terminal(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")


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


def drawn(stream: Stream) -> list[str]:
    """Return what was drawn, a state of the bar or a printed line each, without colours and moves of the cursor."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    return [line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()]


def test_a_terminal_gets_a_bar_that_is_redrawn_in_place_and_ended_once(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    line, stream = terminal_line(total=200)
    for done in (0, 50, 100, 200):
        line.update(done)
        clock.now += 1
    assert stream.getvalue().count("\n") == 1
    states = drawn(stream)
    assert [re.sub("[ ━╸╺]+", " ", state) for state in states if " of " in state] == [
        "[2/9] labels 0% 0 of 200 images",
        "[2/9] labels 25% 50 of 200 images",  # too soon to tell the rate
        "[2/9] labels 50% 2s 100 of 200 images, 50 images/s",
        "[2/9] labels 100% 200 of 200 images, 67 images/s",
        "[2/9] labels 100% 200 of 200 images, 67 images/s",  # once more as it ends
    ]
    assert states[-1].count("━") == 20


@pytest.mark.parametrize("width", [1, 2, 5, 10, 20, 30, 39, 40, 60, 80, 99, 200])
def test_a_bar_never_wraps(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    line, stream = terminal_line(96_000, "[3/9] stage 1 classifier \u732b")
    line.update(0)
    line.update(96_000, rate=1234.5, labelled_loss=0.123456, mask_share=0.5)
    assert stream.getvalue().count("\n") == 1
    assert max(map(cell_len, drawn(stream)), default=0) <= width
    if width >= 40:
        assert any("[3/9] stage 1 classifier" in state and "100%" in state for state in drawn(stream))


def test_a_bar_is_not_drawn_more_often_than_an_eye_sees(clock):
    line, stream = terminal_line()
    line.update(0)
    length = len(stream.getvalue())
    clock.now += BAR_SECONDS / 2
    line.update(1)
    assert len(stream.getvalue()) == length
    clock.now += BAR_SECONDS
    line.update(2)
    assert len(stream.getvalue()) > length


@pytest.mark.parametrize("title", ["plain", "[1/2] a: b: c", "12 of 3: x", "", "1,000: ", "[bold]", "\x1b[31mred"])
def test_any_title_can_have_a_bar(monkeypatch, title):
    monkeypatch.setenv("COLUMNS", "80")
    line, stream = terminal_line(total=10, title=title)
    line.update(5)
    assert drawn(stream)[-1].startswith(printable(title))
    assert drawn(stream)[-1].endswith("50%  5 of 10 images")


def test_more_than_everything_and_nothing_at_all_fill_the_bar(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for total, done in ((10, 15), (0, 0)):
        line, stream = terminal_line(total=total)
        line.update(done)
        assert "━" * 20 in drawn(stream)[-1]
        assert "100%" in drawn(stream)[-1]
        assert drawn(stream)[-1].endswith(f"{done} of {total} images")


def test_a_terminal_is_given_back_however_the_work_ends():
    hide, show = "\x1b[?25l", "\x1b[?25h"
    line, stream = terminal_line()

    def work() -> None:
        with line:
            line.update(10)
            assert stream.getvalue().rfind(hide) > stream.getvalue().rfind(show)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert stream.getvalue().rfind(show) > stream.getvalue().rfind(hide)
    assert stream.getvalue().count("\n") == 1


def test_a_note_stands_above_the_bar(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    line, stream = terminal_line()
    with line:
        line.update(10)
        line.note("one [image] is\x1b broken")
    shown = drawn(stream)
    noted = shown.index("[2/9] labels: one [image] is\\x1b broken")
    assert "10 of 1,000 images" in shown[noted - 1]
    assert "10 of 1,000 images" in shown[noted + 1]


def test_what_is_printed_meanwhile_stands_above_the_bar(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    stream = Stream(terminal=True)
    monkeypatch.setattr(sys, "stderr", stream)
    with ProgressLine("labels", 1000, "images") as line:
        line.update(10)
        print("warning: of somebody", file=sys.stderr)
    assert sys.stderr is stream
    shown = drawn(stream)
    printed = shown.index("warning: of somebody")
    assert "10 of 1,000 images" in shown[printed - 1]
    assert "10 of 1,000 images" in shown[printed + 1]


def test_output_that_goes_elsewhere_stays_there(monkeypatch):
    terminal, file = Stream(terminal=True), Stream(terminal=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", file)
    with ProgressLine("labels", 1000, "images") as line:
        line.update(10)
        print("a result")
    assert file.getvalue() == "a result\n"
    assert "a result" not in terminal.getvalue()


def test_a_terminal_that_cannot_draw_over_a_line_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    line, stream = terminal_line(total=10)
    line.update(5)
    assert stream.getvalue() == "[2/9] labels: 5 of 10 images\n"


def test_the_rate_counts_what_was_done_since_the_first_sight_of_it(clock):
    line, stream = log_line()
    line.update(600)  # resumed: 600 were done before
    clock.now += 20
    line.update(800)
    assert stream.getvalue().splitlines() == [
        "[2/9] labels: 600 of 1,000 images",
        "[2/9] labels: 800 of 1,000 images, 10 images/s, 20s left",
    ]


def test_units_that_arrive_together_have_no_rate(clock):
    line, stream = log_line()
    line.update(500)
    clock.now += 0.01
    line.update(1000)
    assert stream.getvalue().splitlines()[-1] == "[2/9] labels: 1,000 of 1,000 images"


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


def _progress(done: int) -> TrainingProgress:
    return TrainingProgress(done, rate=1.0, loss=0.5, totals={})


def test_a_board_keeps_the_newest_state_of_each_step():
    board = Board()
    assert board.read("a") is None
    board.write("a", _progress(1))
    board.write("b", _progress(5))
    board.write("a", _progress(2))
    assert board.read("a") == _progress(2)
    assert board.read("b") == _progress(5)


def test_a_board_gives_each_row_of_a_history_once():
    board = Board()
    board.write("a", _progress(1), {"images": 1.0, "loss": 2.0})
    board.write("a", _progress(2), {"images": 2.0, "loss": 1.0})
    number, news = board.take("a", 0)
    assert [row["loss"] for row in news.rows] == [2.0, 1.0]
    assert board.take("a", number)[1].rows == board.take("b", 0)[1].rows == []


def test_news_whose_answer_came_too_late_are_given_again():
    board = Board()
    board.note("a", "first")
    number, _ = board.take("a", 0)
    board.note("a", "second")
    board.resume("a", 5)
    board.take("a", number)  # the reader waits no longer
    board.note("a", "third")
    number, news = board.take("a", number)
    assert (news.notes, news.resumed) == (["second", "third"], 5)
    number, news = board.take("a", number)
    assert (news.notes, news.resumed) == ([], None)


def test_a_new_board_begins_anew_for_a_reader_of_the_one_before():
    board = Board()
    board.note("a", "first")
    number, news = board.take("a", 7)
    assert news.notes == ["first"]
    assert board.take("a", number)[1].notes == []
