"""What trackers write: TensorBoard's files are read back record by record; services are stood in for by their calls."""

import json
import struct
import sys
import types
import uuid

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from dpt_ray.config.load import load_config
from dpt_ray.data.images.decoding import encode_png
from dpt_ray.data.storage import stores
from dpt_ray.distributed.measurements import Measurement, Picture, observed_by, publish
from dpt_ray.errors import UserError
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.tracking.live_state import LiveState
from dpt_ray.pipeline.tracking.log_file import LogFile
from dpt_ray.pipeline.tracking.metrics_file import MetricsFile
from dpt_ray.pipeline.tracking.open_trackers import open_trackers
from dpt_ray.pipeline.tracking.run_watch import RunWatch
from dpt_ray.pipeline.tracking.tensorboard_events import TensorBoardEvents

ROWS = [Measurement("stage 1 classifier", 64 * n, 128, "images", {"loss": 1 / n}, 1000.0 + n) for n in (1, 2)]


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path) -> str:
    return str(tmp_path) if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def events(folder: str) -> list[Event]:
    """All events, with their checksums compared."""
    (file,) = stores.list_files(stores.join(folder, "tensorboard"))
    assert "tfevents" in file["name"]
    data, found = stores.read_bytes(file["url"]), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert struct.unpack("<I", data[8:12]) == (masked_crc32c(data[:8]),)
        content, data = data[12 : 12 + length], data[12 + length :]
        assert struct.unpack("<I", data[:4]) == (masked_crc32c(content),)
        data = data[4:]
        found.append(Event.FromString(content))
    return found


def test_tensorboard_gets_a_point_for_each_measurement_while_the_run_goes_on(folder):
    tracker = TensorBoardEvents(folder)
    tracker.write(ROWS[:1])
    first, point = events(folder)
    assert first.file_version == "brain.Event:2"
    assert (point.step, point.wall_time) == (64, 1001.0)
    assert [(value.tag, value.simple_value) for value in point.summary.value] == [("stage_1_classifier/loss", 1.0)]
    tracker.write(ROWS[1:])
    tracker.close("finished", {"stage3_accuracy": 0.75})
    last = events(folder)[-1].summary.value[0]
    assert len(events(folder)) == 4
    assert (last.tag, last.simple_value) == ("evaluation/stage3_accuracy", 0.75)


def test_tensorboard_gets_pictures(folder):
    png = encode_png(np.zeros((3, 4, 6), np.uint8))
    tracker = TensorBoardEvents(folder)
    tracker.show([Picture("stage 2 generator", 64, png, 1000.0)])
    (value,) = events(folder)[-1].summary.value
    assert (value.tag, events(folder)[-1].step) == ("stage_2_generator/picture", 64)
    assert (value.image.height, value.image.width, value.image.encoded_image_string) == (4, 6, png)


def test_metrics_are_a_json_object_a_line(folder):
    tracker = MetricsFile(folder)
    tracker.write(ROWS)
    tracker.close("finished", {"stage3_accuracy": 0.75})
    lines = [json.loads(line) for line in stores.read_bytes(stores.join(folder, "metrics.jsonl")).splitlines()]
    assert [line["values"] for line in lines] == [{"loss": 1.0}, {"loss": 0.5}, {"stage3_accuracy": 0.75}]
    assert lines[0] | {"values": 0} == {
        "time": "1970-01-01T00:16:41.000+00:00",
        "step": "stage 1 classifier",
        "done": 64,
        "total": 128,
        "unit": "images",
        "values": 0,
    }


def test_observers_get_finite_numbers_while_they_observe():
    seen: list[Measurement] = []
    with observed_by(seen.append):
        publish("a", 1, 2, "images", {"loss": float("nan"), "rate": 2})
    publish("a", 2, 2, "images", {})
    assert [(one.done, one.values) for one in seen] == [(1, {"rate": 2.0})]


def test_observing_settings_change_no_address():
    plain, observed = (
        build(load_config(None, ["preset=digits", *settings]))
        for settings in ([], ["tracking={tensorboard: false, mlflow: http://localhost:5000, wandb: p}"])
    )
    assert [step.address for step in plain.steps()] == [step.address for step in observed.steps()]


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_tracker_that_is_not_installed_is_one_line(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, f"{name}.entities", None)
    config = load_config(None, ["preset=digits", f"tracking.{name}=x"])
    with pytest.raises(UserError, match=rf"tracking.{name}: needs .*; pip install 'dpt_ray\[{name}\]'"):
        open_trackers(config, str(tmp_path), "digits/1")


class FakeRun:
    """A run of Weights & Biases: keeps what is logged."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []
        self.summary: dict[str, float] = {}
        self.metrics: list[tuple[str, str]] = []
        self.exit_code: int | None = None

    def log(self, values: dict[str, float]) -> None:
        self.logged.append(values)

    def define_metric(self, name: str, step_metric: str) -> None:
        self.metrics.append((name, step_metric))

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


def test_weights_and_biases_get_points_against_images_and_the_figures(tmp_path, monkeypatch):
    run, given = FakeRun(), {}
    fake = types.ModuleType("wandb")
    fake.init = lambda **options: given.update(options) or run
    fake.Settings = dict
    fake.Image = lambda image, caption: (image.size, caption)
    fake.errors = types.SimpleNamespace(Error=RuntimeError)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    config = load_config(None, ["preset=digits", "tracking={tensorboard: false, wandb: project}"])
    tracker = open_trackers(config, str(tmp_path), "digits/1")[-1]
    tracker.write(ROWS)
    png = encode_png(np.zeros((3, 4, 6), np.uint8))
    tracker.show([Picture("stage 1 classifier", 1280, png), Picture("stage 2 generator", 64, png)])
    tracker.close("failed", {"stage3_accuracy": 0.75})
    assert (given["project"], given["name"], given["dir"]) == ("project", "digits/1", str(tmp_path))
    assert given["config"]["stage2.images"] == config.stage2.images
    assert run.metrics == [
        ("stage_1_classifier/*", "stage_1_classifier/images"),
        ("stage_2_generator/*", "stage_2_generator/images"),
    ]
    shown = {"stage_1_classifier/picture": ((6, 4), "after 1,280 images"), "stage_1_classifier/images": 1280}
    assert run.logged[2] == shown
    assert run.logged[1] == {"stage_1_classifier/loss": 0.5, "stage_1_classifier/images": 128}
    assert (run.summary, run.exit_code) == ({"evaluation/stage3_accuracy": 0.75}, 1)


class Picky:
    """A tracker whose store of pictures cannot be reached."""

    name = "Picky"

    def __init__(self) -> None:
        self.written = 0
        self.tried = 0

    def write(self, measurements) -> None:
        self.written += len(measurements)

    def show(self, pictures) -> None:
        self.tried += 1
        raise ConnectionError("no store")

    def close(self, outcome, figures) -> None:
        self.written += 100


def test_a_tracker_that_takes_no_picture_still_gets_measurements(tmp_path, capsys):
    picky = Picky()
    watch = RunWatch(str(tmp_path), LiveState("r", [], ""), LogFile(str(tmp_path), lambda about, text: None))
    watch.use([picky])
    for row in ROWS:
        watch.observe(row)
        watch.observe(Picture("stage 1 classifier", row.done, encode_png(np.zeros((3, 4, 6), np.uint8))))
        watch._write()
    watch.close("finished", {}, None, has_report=True)
    assert (picky.tried, picky.written) == (1, 102)
    assert "Picky gets no pictures any more (ConnectionError: no store)" in capsys.readouterr().out
