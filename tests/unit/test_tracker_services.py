"""MLflow and Weights & Biases themselves, without a network: what they keep on this machine is read back."""

import json
import struct
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpt_ray.config.load import load_config
from dpt_ray.data.images.decoding import encode_png
from dpt_ray.distributed.measurements import Measurement, Picture
from dpt_ray.pipeline.tracking.open_trackers import open_trackers

STEP = "stage 2 generator"
ROWS = [Measurement(STEP, 64 * n, 128, "images", {"loss": 1 / n}, 1000.0 + n) for n in (1, 2)]
PIXELS = np.arange(72, dtype=np.uint8).reshape(3, 4, 6)
PICTURE = Picture(STEP, 96, encode_png(PIXELS), 1002.0)


def track(setting: str, folder: Path) -> None:
    """Track a run of two measurements and a picture between them."""
    config = load_config(None, ["preset=digits", "tracking.tensorboard=false", setting])
    tracker = open_trackers(config, str(folder), "digits/1")[-1]
    tracker.write(ROWS[:1])
    tracker.show([PICTURE])
    tracker.write(ROWS[1:])
    tracker.close("finished", {"stage3_accuracy": 0.75})


def test_mlflow_keeps_all_in_a_local_database(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="MLFLOW IS NOT INSTALLED")
    pytest.importorskip("sqlalchemy", reason="MLFLOW'S WHOLE PACKAGE IS NOT INSTALLED")
    from mlflow.tracking import MlflowClient
    from PIL import Image

    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    database = tmp_path / "kept" / "mlflow.db"
    database.parent.mkdir()
    track(f"tracking.mlflow={database}", tmp_path)
    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.metrics["evaluation/stage3_accuracy"]) == ("FINISHED", 0.75)
    assert run.data.params["stage2.batch"] == "64"
    points = client.get_metric_history(run.info.run_id, "stage_2_generator/loss")
    assert [(point.step, point.value) for point in points] == [(64, 1.0), (128, 0.5)]
    images = [path for path in (tmp_path / "kept").rglob("*.png") if "step%96" in path.name or "+step+96" in path.name]
    with Image.open(images[0]) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")).transpose(2, 0, 1), PIXELS)
    assert list(here.iterdir()) == []  # nothing where the command happens to run


def records(data: bytes) -> Iterator[bytes]:
    """The records of a file of Weights & Biases: LevelDB's log format after a header of 7 bytes."""
    block, place, whole = 32 * 2**10, 7, b""
    while place < len(data):
        if block - place % block < 7:  # the rest of a block that is too short for a header
            place += block - place % block
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield whole
            whole = b""


def test_weights_and_biases_keep_all_in_files_of_the_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="WEIGHTS & BIASES ARE NOT INSTALLED")
    from PIL import Image
    from wandb.proto import wandb_internal_pb2

    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("WANDB_MODE", "offline")
    (folder := tmp_path / uuid.uuid4().hex).mkdir()
    track("tracking.wandb=project", folder)
    deadline, kept = time.monotonic() + 60, list[Any]()
    while not kept or kept[-1].WhichOneof("record_type") != "exit":  # a process of its own writes the file
        assert time.monotonic() < deadline
        (file,) = folder.rglob("*.wandb")
        kept = [wandb_internal_pb2.Record.FromString(data) for data in records(file.read_bytes())]
    rows, summary = [], {}
    for record in kept:
        if record.HasField("history"):
            rows.append({i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in record.history.item})
        for item in record.summary.update:
            summary[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
    own = [{k.removeprefix("stage_2_generator/"): value for k, value in row.items()} for row in rows]
    assert [(row.get("loss"), row["images"]) for row in own] == [(1.0, 64), (None, 96), (0.5, 128)]
    assert [own[1][f"picture.{name}"] for name in ("_type", "width", "height")] == ["image-file", 6, 4]
    with Image.open(next(folder.rglob(own[1]["picture.path"]))) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")).transpose(2, 0, 1), PIXELS)
    assert summary["evaluation/stage3_accuracy"] == 0.75
    assert list(here.iterdir()) == []
