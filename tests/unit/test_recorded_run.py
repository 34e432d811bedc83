"""The folder of a run as it grows: a whole tiny run in this process, without Ray, and runs that end otherwise."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from run_in_process import without_ray

from dpt_ray.cli.job import run_job
from dpt_ray.data.images.decoding import encode_png
from dpt_ray.data.storage import stores
from dpt_ray.distributed.measurements import publish, publish_picture
from dpt_ray.pipeline import jobs
from dpt_ray.pipeline.artifacts.run_record import STARTED_FILE
from dpt_ray.pipeline.run_report import finish_run
from dpt_ray.pipeline.runs import list_runs
from dpt_ray.pipeline.tracking import open_trackers, run_watch

TINY = [
    "data.images_per_shard=1000",
    "stage1.model.width=4",
    "stage2.model.dim=16",
    "stage2.model.depth=2",
    "stage2.model.heads=2",
    "sampling.per_class=2",
    "sampling.steps=2",
]
PNG = encode_png(np.zeros((3, 4, 4), np.uint8))
REFRESH = '<meta http-equiv="refresh"'


def run(root: Path, *settings: str) -> int:
    given = {setting.partition("=")[0]: setting for setting in [*TINY, f"root={root}", *settings]}
    words = [word for setting in given.values() for word in ("--set", setting)]
    return run_job("test", lambda run: run.steps(), finish_run, words)


@pytest.fixture
def in_process(monkeypatch):
    without_ray(monkeypatch)


@pytest.mark.usefixtures("in_process")
def test_each_run_of_a_name_keeps_its_own_report_and_the_name_shows_the_newest(tmp_path):
    assert run(tmp_path) == 0
    above = tmp_path / "runs" / "digits"
    (first,) = list_runs(str(tmp_path))
    report = Path(first.url, "report.html").read_bytes()
    assert (above / "report.html").read_bytes() == report
    assert run(tmp_path) == 0
    assert run(tmp_path, "sampling.steps=3") == 0
    runs = list_runs(str(tmp_path))
    assert [one.state for one in runs] == ["finished"] * 3
    assert Path(first.url, "report.html").read_bytes() == report
    newest = Path(runs[-1].url)
    assert (above / "report.html").read_bytes() == (newest / "report.html").read_bytes() != report
    assert "steps: 3" in (above / "config.yaml").read_text()
    assert runs[0].artifacts == runs[1].artifacts != runs[2].artifacts


@pytest.mark.usefixtures("in_process")
def test_a_finished_run_says_all_of_itself(tmp_path):
    assert run(tmp_path) == 0
    (one,) = list_runs(str(tmp_path))
    folder = Path(one.url)
    assert one.software["torch"]
    assert len(one.command) > 0
    assert set(one.artifacts.values()) <= set(one.needs)
    assert one.figures["stage3_accuracy"] >= 0
    assert "stage 3 classifier: done in" in (folder / "log.txt").read_text()
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["values"] == one.figures
    assert len(list((folder / "tensorboard").iterdir())) == 1
    assert REFRESH not in (folder / "report.html").read_text()
    assert not (folder / "claim.json").exists()


def test_the_page_and_the_files_grow_while_a_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(run_watch, "LOCAL_SECONDS", 0.01)
    monkeypatch.setattr(run_watch, "PAGE_SECONDS", 0.01)
    monkeypatch.setattr(run_watch, "PAGE_SHARE", 1.0)
    seen = {}

    def make(wanted, store, cluster, say, policy, **options):
        (going,) = list_runs(str(tmp_path))
        folder = Path(going.url)
        title = next(step for step in wanted if step.name == "classifier").title
        with jobs.job_log.about(step=title, artifact=wanted[4].address, event="step_started"):
            say(f"[5/16] {title}: training")
        publish(title, 32, 64, "images", {"loss": 2.0})
        publish(title, 64, 64, "images", {"loss": 1.0})
        for done in (32, 64):
            publish_picture("stage 2 generator", done, PNG)
        while "after 64 images" not in (
            page := (folder / "report.html").read_text()
        ):  # the test's time limit bounds it
            pass
        while (folder / "metrics.jsonl").read_text().count("\n") < 2:
            pass
        seen.update(state=going.state, page=page, log=(folder / "log.txt").read_text())
        raise ValueError("of the test")

    monkeypatch.setattr(jobs, "make_all", make)
    assert run(tmp_path) == 1
    assert seen["state"] == "running"
    assert REFRESH in seen["page"]
    assert "<svg" in seen["page"]
    assert "after 32 images" not in seen["page"]
    assert "training" in seen["log"]
    (ended,) = list_runs(str(tmp_path))
    assert (ended.state, ended.message) == ("failed", "ValueError: of the test")
    pictures = Path(ended.url, "pictures")
    assert {picture.read_bytes() for picture in pictures.iterdir()} == {PNG}
    assert [int(path.stem.rpartition("-")[2]) for path in sorted(pictures.iterdir())] == [32, 64]
    page = Path(ended.url, "report.html").read_text()
    assert REFRESH not in page
    assert "ValueError: of the test" in page
    assert "Traceback" in Path(ended.url, "log.txt").read_text()
    assert not (tmp_path / "runs" / "digits" / "report.html").exists()


def test_an_interrupted_run_says_so(tmp_path, monkeypatch):
    def make(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "make_all", make)
    assert run(tmp_path) == 130
    assert [one.state for one in list_runs(str(tmp_path))] == ["interrupted"]


class Broken:
    """A tracker whose service has gone."""

    name = "a service"

    def write(self, measurements):
        raise ConnectionError("it has gone")

    def close(self, outcome, figures):
        raise AssertionError("it gets nothing more")


@pytest.mark.usefixtures("in_process")
def test_a_tracker_that_fails_ends_no_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(open_trackers, "MetricsFile", lambda folder: Broken())
    assert run(tmp_path) == 0
    said = capsys.readouterr().out
    assert len(re.findall("a service gets no measurements any more .*it has gone", said)) == 1


def test_nothing_is_recorded_when_the_settings_are_wrong_or_nothing_runs(tmp_path):
    assert run(tmp_path, "sampling.steps=0") == 2
    words = [word for setting in [*TINY, f"root={tmp_path}"] for word in ("--set", setting)]
    assert run_job("test", lambda run: run.steps(), finish_run, [*words, "--dry-run"]) == 0
    assert list(tmp_path.iterdir()) == []


def test_the_record_of_the_start_holds_no_secret(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "make_all", lambda *arguments, **options: {})
    monkeypatch.setattr("sys.argv", ["dpt", "run", "--set", "data.train=https://me:secret@host/x"])
    run_job("test", lambda run: [], None, ["--set", f"root={tmp_path}"])
    (one,) = list_runs(str(tmp_path))
    assert "secret" not in stores.read_bytes(stores.join(one.url, STARTED_FILE)).decode()
