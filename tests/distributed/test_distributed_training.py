"""Training with Ray Train: workers, storage form and failures change nothing in the result."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from numbered_shards import IMAGE_SIZE, write_numbered_shards

from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.core.training.from_settings import classifier_training, generator_training
from dpt_ray.core.training.loop import Schedule
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.weights import load_network, save_network
from dpt_ray.data.storage import stores
from dpt_ray.distributed.checkpoints import CHECKPOINT_FILE, checkpoint_name, list_checkpoints
from dpt_ray.distributed.measurements import Picture, observed_by
from dpt_ray.distributed.preview import Preview
from dpt_ray.distributed.progress import StepProgress
from dpt_ray.distributed.ray_training import run_training
from dpt_ray.distributed.resources import Resources
from dpt_ray.distributed.training_job import HISTORY_FILE, TrainingJob
from dpt_ray.errors import UserError
from dpt_ray.networks.files import NETWORK_FILE

CONFIG = GeneratorConfig(model={"dim": 16, "depth": 2, "heads": 2}, batch=16, images=640, flip=False, process="edm")
BATCHES = {"images": CONFIG.batch}
ONE_WORKER, TWO_WORKERS = Resources(1, 0.8, 0), Resources(2, 0.8, 0)


def _build(dies_in: Path | None = None) -> TrainState:
    state = generator_training(CONFIG, image_size=IMAGE_SIZE, channels=1, num_classes=3, seed=0)
    if dies_in is not None:
        state.objective.register_forward_pre_hook(partial(_die_once_in_the_middle, dies_in))
    return state


def _die_once_in_the_middle(folder: Path, objective, arguments) -> None:
    """Die at step 30, as soon as Ray Train has put two checkpoints of the training in `folder` on its list."""
    objective.calls = getattr(objective, "calls", 0) + 1
    flag = folder.with_name("died")
    if objective.calls == 30 and not flag.exists():
        deadline = time.monotonic() + 60
        while _checkpoint_list(folder).count("images_") < 3:  # the newest one is named twice
            assert time.monotonic() < deadline
            time.sleep(0.05)
        flag.touch()
        os._exit(1)


def _checkpoint_list(folder: Path) -> str:
    ray_list = folder / "checkpoints" / "checkpoint_manager_snapshot.json"
    return ray_list.read_text() if ray_list.exists() else ""


def _spoiled() -> TrainState:
    state = _build()
    with torch.no_grad():
        next(state.model.parameters()).fill_(float("nan"))
    return state


def _finish(state: TrainState) -> bytes:
    return save_network(state.ema.model, {"kind": "test"})


def _train(
    tmp_path: Path,
    name: str,
    *,
    build=_build,
    resources=ONE_WORKER,
    batches=BATCHES,
    preview=None,
    **cluster,
):
    folder = str(tmp_path / name)
    source = write_numbered_shards(str(tmp_path / "shards"), [30, 11, 23])
    per_step = sum(batches.values())
    job = TrainingJob(
        config=CONFIG,
        data=DataConfig(lanes=8, shuffle_window=1000),
        cluster=ClusterConfig(**{"max_failures": 1, **cluster}),
        build=build,
        finish=_finish,
        sources={name: (source, batch) for name, batch in batches.items()},
        schedule=Schedule(40 * per_step, per_step, log_every=4 * per_step, checkpoint_seconds=0.01),
        seed=0,
        folder=folder,
    )
    progress = StepProgress(name, 40 * per_step, "images")
    run_training(job, resources=resources, progress=progress, preview=preview)
    weights, _ = load_network(stores.read_bytes(stores.join(folder, NETWORK_FILE)))
    return weights, stores.read_json(stores.join(folder, HISTORY_FILE))


@pytest.fixture(scope="module")
def undisturbed(connect_ray, tmp_path_factory):
    connect_ray()
    return _train(tmp_path_factory.mktemp("undisturbed"), "undisturbed")


def test_the_loss_falls_and_the_history_covers_the_training(undisturbed):
    _, history = undisturbed
    assert [row["images"] for row in history] == list(range(64, 641, 64))
    assert history[-1]["loss"] < history[0]["loss"]


@pytest.mark.usefixtures("undisturbed")
def test_training_leaves_ctrl_c_to_the_job():
    """Ray Train would take it for the rest of the process, and end that without a word (real one: `test_kill.py`)."""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_killed_worker_resumes_to_bit_identical_weights(undisturbed, tmp_path, capsys):
    weights, history = _train(tmp_path, "killed", build=partial(_build, tmp_path / "killed"))
    assert (tmp_path / "died").exists()
    assert "killed: goes on from" in capsys.readouterr().err
    assert history == undisturbed[1]
    for name, value in weights.items():
        assert torch.equal(value, undisturbed[0][name]), name


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_pictures_are_drawn_and_change_nothing(undisturbed, tmp_path, workers, capsys):
    """A picture that cannot be drawn is a line, and the training goes on."""
    seen, resources = [], TWO_WORKERS if workers else ONE_WORKER
    with observed_by(seen.append):
        weights, history = _train(
            tmp_path, "drawn", resources=resources, workers=workers, preview=Preview(_draw_or_fail, (0.25, 0.5, 1.0))
        )
    pictures = [one for one in seen if isinstance(one, Picture)]
    assert [(one.step, one.done) for one in pictures] == [("drawn", 320), ("drawn", 640)]
    assert load_network(pictures[-1].png)[0].keys() == weights.keys()
    for name, value in load_network(pictures[-1].png)[0].items():
        assert torch.equal(value, weights[name]), name
    assert "drawn: no picture is drawn (no canvas)" in capsys.readouterr().err
    if workers == 0:
        assert history == undisturbed[1]
        for name, value in weights.items():
            assert torch.equal(value, undisturbed[0][name]), name


def _draw_or_fail(network: bytes) -> bytes:
    """Return the file itself in place of a picture; fail at first."""
    _draw_or_fail.calls = getattr(_draw_or_fail, "calls", 0) + 1
    if _draw_or_fail.calls == 1:
        raise ValueError("no canvas")
    return network


@pytest.mark.slow
def test_a_damaged_list_and_a_damaged_newest_checkpoint_cost_no_more_than_that_checkpoint(
    undisturbed, tmp_path, capsys
):
    """The list as left by a kill while Ray Train overwrites it in place."""
    folder = tmp_path / "damaged"
    build = partial(_build, folder)
    with pytest.raises(Exception, match="worker"):
        _train(tmp_path, "damaged", build=build, max_failures=0)
    ray_list = folder / "checkpoints" / "checkpoint_manager_snapshot.json"
    ray_list.write_text('{"checkpoint_results": [{"checkpoint_dir_name": "images_')
    # The worker may have died while its last checkpoint was copied.
    stored = [
        name for name in list_checkpoints(str(folder)) if (folder / "checkpoints" / name / CHECKPOINT_FILE).exists()
    ]
    assert len(stored) >= 2
    newest = folder / "checkpoints" / stored[0] / CHECKPOINT_FILE
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    weights, history = _train(tmp_path, "damaged", build=build, workers=0)
    told = capsys.readouterr().err
    assert f"damaged: checkpoint {stored[0]} is damaged (the checksum of its" in told
    assert f"damaged: goes on from {int(stored[1][7:22])} images" in told
    assert history == undisturbed[1]
    for name, value in weights.items():
        assert torch.equal(value, undisturbed[0][name]), name


@pytest.mark.parametrize("keep_mib", [1024, 0], ids=["kept", "streamed"])
def test_the_process_of_the_job_trains_to_bit_identical_weights(undisturbed, tmp_path, keep_mib):
    threads = torch.get_num_threads()
    weights, history = _train(tmp_path, "here", workers=0, keep_mib=keep_mib)
    assert len(list_checkpoints(str(tmp_path / "here"))) == 2
    assert torch.get_num_threads() == threads
    assert history == undisturbed[1]
    for name, value in weights.items():
        assert torch.equal(value, undisturbed[0][name]), name


@pytest.mark.slow  # `tests/distributed/test_reading.py` and the same in the process of the job are not
def test_a_streamed_source_trains_to_bit_identical_weights(undisturbed, tmp_path):
    weights, _ = _train(tmp_path, "streamed", keep_mib=0)
    for name, value in weights.items():
        assert torch.equal(value, undisturbed[0][name]), name


@pytest.mark.slow
def test_two_workers_that_share_out_the_network_give_the_same_up_to_rounding(undisturbed, tmp_path):
    weights, history = _train(tmp_path, "two", resources=TWO_WORKERS, shard_weights=True, gradient_accumulation=2)
    for row, expected in zip(history, undisturbed[1], strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-3)
    for name, value in undisturbed[0].items():
        torch.testing.assert_close(weights[name], value, rtol=1e-2, atol=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_loss_that_is_not_finite_stops_with_one_line(tmp_path):
    told = r"spoiled: loss is not finite in step 1 \(images 1 to 16\); lower the learning rate"
    with pytest.raises(UserError, match=told):
        _train(tmp_path, "spoiled", build=_spoiled, workers=0)


@pytest.mark.usefixtures("local_ray")
def test_a_checkpoint_of_another_network_stops_before_the_first_step_with_one_line(tmp_path):
    wider = CONFIG.model_copy(update={"model": CONFIG.model.model_copy(update={"dim": 32})})
    other = generator_training(wider, image_size=IMAGE_SIZE, channels=1, num_classes=3, seed=0)
    content = other.to_bytes()
    place = tmp_path / "foreign" / "checkpoints" / checkpoint_name(64, content)
    stores.write_bytes(str(place / CHECKPOINT_FILE), content)
    told = r"foreign/checkpoints: not a checkpoint of this training: its model is with .*; it is whole: go on with"
    with pytest.raises(UserError, match=told):
        _train(tmp_path, "foreign")
    assert not (tmp_path / "foreign" / HISTORY_FILE).exists()
    assert (place / CHECKPOINT_FILE).read_bytes() == content


@pytest.mark.slow  # `tests/unit/test_two_workers.py`, without Ray, is not
@pytest.mark.usefixtures("local_ray")
def test_two_workers_train_a_classifier_with_batch_norm_like_one(tmp_path):
    """Also FreeMatch's thresholds, its fairness loss and batch norm are those of the global batch."""
    config = ClassifierConfig(model={"width": 8}, augmentation={"flip": False, "crop_padding": 1})
    build = partial(classifier_training, config, channels=1, num_classes=3, seed=0)
    batches = {"labelled": 8, "unlabelled": 16}
    one = _train(tmp_path, "one", build=build, batches=batches, workers=0)
    two = _train(tmp_path, "two", build=build, batches=batches, resources=TWO_WORKERS)
    for row, expected in zip(two[1], one[1], strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=0.02)
        assert row["threshold"] == pytest.approx(expected["threshold"], rel=0.02)
    for name, value in two[0].items():
        assert torch.allclose(value.float(), one[0][name].float(), atol=0.02), name
