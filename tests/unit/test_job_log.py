"""Logs: text as it is, or a JSON object a line that says which run and step it belongs to."""

import io
import json
import logging
import threading
from datetime import datetime

import pytest

from dpt_ray.cli.job import run_job
from dpt_ray.distributed import job_log
from dpt_ray.distributed.metrics import CHECKPOINT, TRAINING
from dpt_ray.distributed.progress import StepProgress


@pytest.fixture
def as_json(monkeypatch):
    monkeypatch.setenv(job_log.FORMAT_VARIABLE, "json")


def records(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_text_is_said_as_it_is_whatever_it_is_about(capsys):
    with job_log.about(run="digits"):
        job_log.tell("[1/2] step: done", event="step_done", seconds=1.0)
    assert capsys.readouterr().out == "[1/2] step: done\n"


@pytest.mark.usefixtures("as_json")
def test_a_line_of_json_says_when_what_and_about_what(capsys):
    with job_log.about(run="digits", step="stage 1 classifier"), job_log.about(artifact="classifier/ab", seconds=1.5):
        job_log.tell("\nseveral\nlines: ä", event="step_done", step="other")
    job_log.tell("after")
    first, second = records(capsys.readouterr().out)
    assert datetime.fromisoformat(first.pop("time")).utcoffset().total_seconds() == 0
    assert first == {
        "level": "info",
        "event": "step_done",
        "run": "digits",
        "step": "other",
        "artifact": "classifier/ab",
        "seconds": 1.5,
        "message": "several\nlines: ä",
    }
    assert (second["event"], second["message"]) == ("message", "after")
    assert "run" not in second


@pytest.mark.usefixtures("as_json")
def test_a_steps_progress_belongs_to_it_also_from_another_thread():
    stream = io.StringIO()
    stream.isatty = lambda: True  # no bar where machines read
    with job_log.about(run="digits", step="stage 1 classifier", artifact="classifier/ab"):
        progress = StepProgress("[3/9] stage 1 classifier", 100, "images", stream)
    thread = threading.Thread(
        target=progress.update, args=(100, {TRAINING: 2.0, CHECKPOINT: 0.5}), kwargs={"rate": 50.0, "loss": 0.1}
    )
    thread.start()
    thread.join()
    progress.resume(40)
    told, resumed = records(stream.getvalue())
    assert told["message"] == "[3/9] stage 1 classifier: 100 of 100 images, 50 images/s, loss 0.1"
    assert {name: told[name] for name in ("event", "run", "step", "artifact", "done", "total", "unit")} == {
        "event": "progress", "run": "digits", "step": "stage 1 classifier", "artifact": "classifier/ab",
        "done": 100, "total": 100, "unit": "images",
    }  # fmt: skip
    assert {name: told[name] for name in ("per_second", "loss", "training_seconds", "checkpoint_seconds")} == {
        "per_second": 50.0, "loss": 0.1, "training_seconds": 2.0, "checkpoint_seconds": 0.5,
    }  # fmt: skip
    assert (resumed["event"], resumed["done"], resumed["run"]) == ("resumed", 40, "digits")


@pytest.mark.usefixtures("as_json")
def test_a_job_that_cannot_start_says_so_in_json(capsys):
    assert run_job("test", lambda run: run.steps(), arguments=["--set", "stage1.imagse=3"]) == 2
    (record,) = records(capsys.readouterr().err)
    assert (record["level"], record["event"]) == ("error", "error")
    assert "did you mean 'stage1.images'?" in record["message"]


@pytest.mark.usefixtures("as_json")
def test_a_bug_is_one_line_with_its_traceback(capsys):
    def targets(run):
        raise ZeroDivisionError("of the test")

    assert run_job("test", targets, arguments=[]) == 1
    (record,) = records(capsys.readouterr().err)
    assert record["message"] == "error: ZeroDivisionError: of the test"
    assert "in targets" in record["traceback"]


def test_an_unknown_format_is_told_in_one_line(monkeypatch, capsys):
    monkeypatch.setenv(job_log.FORMAT_VARIABLE, "xml")
    assert run_job("test", lambda run: run.steps(), arguments=["--dry-run"]) == 2
    assert capsys.readouterr().err == "error: DPT_LOG_FORMAT=xml: is no format of logs; there are: text, json\n"


def test_what_modules_of_the_package_warn_of_has_the_jobs_form(monkeypatch, capsys):
    job_log.show_warnings()
    job_log.show_warnings()
    log = logging.getLogger("dpt_ray.storage")
    log.info("nobody needs this")
    log.warning("%s: %d attempts failed", "s3://b/a\x1b", 3)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "s3://b/a\\x1b: 3 attempts failed\n")
    monkeypatch.setenv(job_log.FORMAT_VARIABLE, "json")
    with job_log.about(run="digits", step="train data"):
        log.warning("%s: %d attempts failed", "s3://b/a", 3)
    (record,) = records(capsys.readouterr().err)
    record.pop("time")
    assert record == {
        "level": "warning", "event": "message", "run": "digits", "step": "train data",
        "message": "s3://b/a: 3 attempts failed",
    }  # fmt: skip


def test_what_a_job_says_is_said_once_whoever_else_logs(capsys):
    job_log.show_warnings()
    root, stream = logging.getLogger(), io.StringIO()
    other = logging.StreamHandler(stream)
    root.addHandler(other)
    try:
        job_log.tell("100 % done %s")
    finally:
        root.removeHandler(other)
    assert capsys.readouterr().out == "100 % done %s\n"
    assert stream.getvalue() == ""


class Closed(io.StringIO):
    """A pipe whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_who_says_something_learns_that_nobody_reads_it():
    with pytest.raises(BrokenPipeError):
        job_log.tell("a result", stream=Closed())


def test_a_warning_that_nobody_reads_ends_nothing(monkeypatch):
    job_log.show_warnings()
    monkeypatch.setattr("sys.stderr", Closed())
    logging.getLogger("dpt_ray.storage").warning("3 attempts failed")
