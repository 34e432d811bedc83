"""What is exported of a step: names by Prometheus's conventions, rises and not standings, and seldom."""

import io
import re
import threading
from pathlib import Path

import pytest

from dpt_ray.distributed import job_log, metrics
from dpt_ray.distributed.metrics import (
    DATA_WAIT,
    EXPORT_SECONDS,
    IMAGES,
    LOSS,
    METRICS,
    PROGRESS,
    TRAINING,
    KeptGauges,
    StepMetrics,
)
from dpt_ray.distributed.progress import StepProgress

DOCUMENT = Path(__file__).parents[2] / "docs/guide/cluster/observability.md"


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(metrics, "time", fake)
    return fake


@pytest.fixture
def written(monkeypatch):
    """Everything that goes to Ray."""
    calls = []
    monkeypatch.setattr(metrics, "write_to_ray", lambda *call: calls.append(call))
    return calls


def test_names_follow_the_conventions_of_prometheus():
    for metric in METRICS:
        assert re.fullmatch(r"dpt(_[a-z]+)+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
    units = {"seconds", "ratio", "images", "shards", "checkpoints", "events", "workers"}
    assert all(units & set(metric.name.split("_")) for metric in METRICS if metric is not LOSS)


def test_every_metric_is_documented():
    text = DOCUMENT.read_text()
    assert [metric.name for metric in METRICS if f"`ray_{metric.name}`" not in text] == []


def test_a_thousand_updates_in_a_second_are_one_export_and_lose_nothing(clock, written):
    exported = StepMetrics("run", "step")
    for images in range(1, 1001):
        exported.update(images / 2000, {IMAGES: images}, {})
        clock.now += EXPORT_SECONDS / 1000 * 0.999
    assert len(written) == 2  # the counter and the share of the first one
    exported.update(1.0, {IMAGES: 2000}, {}, last=True)
    assert sum(value for metric, value, _ in written if metric is IMAGES) == 2000
    assert {tuple(tags.items()) for _, _, tags in written} == {(("run", "run"), ("step", "step"))}


def test_counters_rise_by_what_is_new_and_begin_anew_with_a_worker(clock, written):
    exported = StepMetrics("run", "step")
    for total in (5.0, 5.0, 8.0, 2.0, 3.0):  # the fourth comes from a worker that was started again
        exported.update(0.5, {TRAINING: total}, {})
        clock.now += EXPORT_SECONDS
    assert [value for metric, value, _ in written if metric is TRAINING] == [5.0, 3.0, 2.0, 1.0]


def test_images_of_an_earlier_attempt_are_not_counted_again(clock, written):
    exported = StepMetrics("run", "step")
    exported.resume(600)
    exported.update(0.7, {IMAGES: 700}, {LOSS: 0.5})
    assert [(m.name, value) for m, value, _ in written] == [
        ("dpt_images_total", 100),
        ("dpt_progress_ratio", 0.7),
        ("dpt_loss", 0.5),
    ]


def test_progress_of_a_step_is_shown_and_exported(clock, written):
    stream = io.StringIO()
    with job_log.about(run="digits", step="stage 2 generator", artifact="generator/ab"):
        progress = StepProgress("[4/9] stage 2 generator", 1000, "images", stream)
    progress.update(1000, {TRAINING: 9.0, DATA_WAIT: 0.5}, rate=100.0, loss=0.25)
    assert stream.getvalue() == "[4/9] stage 2 generator: 1,000 of 1,000 images, 100 images/s, loss 0.25\n"
    assert {metric: value for metric, value, _ in written} == {
        IMAGES: 1000, PROGRESS: 1.0, LOSS: 0.25, TRAINING: 9.0, DATA_WAIT: 0.5,
    }  # fmt: skip
    assert written[0][2] == {"run": "digits", "step": "stage 2 generator"}


def test_shards_are_not_counted_as_images(clock, written):
    StepProgress("index", 4, "shards", io.StringIO()).update(4)
    assert [metric for metric, _, _ in written] == [PROGRESS]


def test_a_gauge_is_set_again_until_ray_is_gone():
    """Ray drops a gauge that is not set again, and with it an alert on the age of a checkpoint."""
    calls, three_times, connected = [], threading.Event(), threading.Event()
    connected.set()

    def write(metric, value, tags):
        calls.append((metric, value, tags))
        if calls.count((LOSS, 2.0, {"run": "a"})) == 3:
            three_times.set()

    gauges = KeptGauges(write, connected.is_set, seconds=0.01)
    gauges.set(LOSS, 1.0, {"run": "a"})
    gauges.set(LOSS, 2.0, {"run": "a"})
    gauges.set(PROGRESS, 0.5, {"run": "b"})
    assert three_times.wait(30)
    assert (PROGRESS, 0.5, {"run": "b"}) in calls[3:]
    connected.clear()
    (thread,) = [one for one in threading.enumerate() if getattr(one, "_target", None) == gauges._repeat]
    thread.join(30)
    assert not thread.is_alive()
    before = len(calls)
    connected.set()
    gauges.set(LOSS, 3.0, {"run": "a"})  # a new Ray: nothing of the old one is set again
    assert calls[before] == (LOSS, 3.0, {"run": "a"})
    assert all(call == (LOSS, 3.0, {"run": "a"}) for call in calls[before:])
    connected.clear()
