"""Checkpoints on a store: a damaged one is passed over, whatever the damage; a full disk stops all workers."""

import errno
import json
import shutil
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import nn
from worker_pairs import leave, train_together

from dpt_ray.core.collective import from_first_worker
from dpt_ray.core.objective import Objective
from dpt_ray.core.training.ema import Ema
from dpt_ray.core.training.state import ForeignCheckpointError, TrainState
from dpt_ray.core.weights import read_metadata
from dpt_ray.data.storage import stores
from dpt_ray.distributed import checkpoints
from dpt_ray.distributed.checkpoints import (
    CHECKPOINT_FILE,
    CHECKPOINT_FOLDER,
    CheckpointWriter,
    NotStoredError,
    Restored,
    begin_attempt,
    checkpoint_name,
    list_checkpoints,
    read_checkpoint,
    restore,
    store_together,
)
from dpt_ray.errors import StoreFailureError, UserError


class _Nothing(Objective):
    def forward(self, model, batches):
        raise NotImplementedError


def _state(images: int = 0, width: int = 3) -> TrainState:
    """A training with moments of its optimizer, whose weights are a function of the images seen."""
    torch.manual_seed(images)
    model = nn.Linear(width, 2)
    state = TrainState(model, Ema(model, 0.5), torch.optim.AdamW(model.parameters()), _Nothing(), images)
    model(torch.ones(1, width)).sum().backward()
    state.optimizer.step()
    state.history = [{"images": images, "loss": 1.0}]
    return state


def _put(folder: Path, images: int, state: TrainState | None = None) -> Path:
    """Store a checkpoint; return its folder."""
    content = (state or _state(images)).to_bytes()
    place = folder / CHECKPOINT_FOLDER / checkpoint_name(images, content)
    stores.write_bytes(str(place / CHECKPOINT_FILE), content)
    return place


def _change(place: Path, change) -> None:
    file = place / CHECKPOINT_FILE
    file.write_bytes(change(file.read_bytes()))


def _flip(content: bytes, where: int) -> bytes:
    changed = bytearray(content)
    changed[where] ^= 1
    return bytes(changed)


def _without_a_tensor(content: bytes) -> bytes:
    tensors = load(content)
    tensors.pop("model.weight")
    return save(tensors, read_metadata(content))


DAMAGE = {
    "cut to half": lambda place: _change(place, lambda c: c[: len(c) // 2]),
    "cut by a byte": lambda place: _change(place, lambda c: c[:-1]),
    "empty": lambda place: _change(place, lambda c: b""),
    "a byte more": lambda place: _change(place, lambda c: c + b"\0"),
    "a bit of a weight": lambda place: _change(place, lambda c: _flip(c, len(c) - 5)),
    "a bit of the header": lambda place: _change(place, lambda c: _flip(c, 30)),
    "zeros": lambda place: _change(place, lambda c: bytes(len(c))),
    "another network's": lambda place: _change(place, lambda c: _state(1, width=5).to_bytes()),
    "without a tensor": lambda place: _change(place, _without_a_tensor),
    "text": lambda place: _change(place, lambda c: b"version https://git-lfs.github.com/spec/v1\n"),
    "no file": lambda place: (place / CHECKPOINT_FILE).unlink(),
    "a folder in place of the file": lambda place: (
        (place / CHECKPOINT_FILE).unlink(),
        (place / CHECKPOINT_FILE).mkdir(),
    ),
    "half a write": lambda place: (place / CHECKPOINT_FILE).rename(place / f".{CHECKPOINT_FILE}.0.partial"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before_and_is_named(tmp_path, damage):
    old, whole, newest = (_put(tmp_path, images) for images in (100, 200, 300))
    damage(newest)
    state = _state(7)
    restored = restore(state, str(tmp_path))
    assert (restored.name, state.images_seen) == (whole.name, 200)
    assert torch.equal(state.model.weight, _state(200).model.weight)
    assert state.history == [{"images": 200, "loss": 1.0}]
    (note,) = restored.notes
    assert newest.name in note
    assert "damaged" in note
    assert list_checkpoints(str(tmp_path)) == [newest.name, whole.name, old.name]  # all are there still


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_where_all_are_damaged_the_training_starts_from_the_beginning_and_says_so(tmp_path, damage):
    for images in (100, 200):
        damage(_put(tmp_path, images))
    state = _state(7)
    weights = {name: value.clone() for name, value in state.model.state_dict().items()}
    restored = restore(state, str(tmp_path))
    assert restored.name is None
    assert state.images_seen == 7  # nothing was taken over
    assert all(torch.equal(value, weights[name]) for name, value in state.model.state_dict().items())
    assert len(restored.notes) == 3
    assert restored.notes[-1].endswith("starts from the beginning")


def test_without_checkpoints_nothing_is_said(tmp_path):
    assert restore(_state(), str(tmp_path)) == Restored(None)


def test_checkpoints_of_an_older_form_without_a_checksum_are_taken_and_refused_if_cut(tmp_path):
    for images in (100, 200):
        url = tmp_path / CHECKPOINT_FOLDER / f"images_{images:015d}" / CHECKPOINT_FILE
        stores.write_bytes(str(url), _state(images).to_bytes())
    state = _state()
    assert restore(state, str(tmp_path)).name == "images_000000000000200"
    _change(url.parent, lambda content: content[:-9])
    assert restore(state, str(tmp_path)).name == "images_000000000000100"
    assert state.images_seen == 100


def test_whole_checkpoints_of_another_network_are_no_reason_to_start_over(tmp_path):
    _put(tmp_path, 100, _state(100, width=5))
    with pytest.raises(ForeignCheckpointError, match="its model is with weight of shape"):
        restore(_state(), str(tmp_path))


def test_a_checkpoint_that_cannot_be_read_is_not_taken_for_a_damaged_one(tmp_path, monkeypatch):
    place = _put(tmp_path, 100)

    def refuse(url: str) -> bytes:
        raise UserError("cannot be read (permission denied)", where=url)

    monkeypatch.setattr(stores, "read_bytes", refuse)
    with pytest.raises(UserError, match=rf"permission denied\); if it is lost, remove \S+{place.name} alone"):
        restore(_state(), str(tmp_path))

    def fail(url: str) -> bytes:
        raise StoreFailureError("does not answer", where=url)

    monkeypatch.setattr(stores, "read_bytes", fail)
    with pytest.raises(StoreFailureError):
        read_checkpoint(str(tmp_path), place.name)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"checkpoint_results": [{"checkpoint_dir_name": "gone"}]}'])
def test_rays_list_of_an_earlier_attempt_is_not_needed(tmp_path, content):
    place = _put(tmp_path, 100)
    (place.parent / "checkpoint_manager_snapshot.json").write_bytes(content)
    assert begin_attempt(str(tmp_path)) == [place.name]
    assert not (place.parent / "checkpoint_manager_snapshot.json").exists()
    assert restore(_state(), str(tmp_path)).name == place.name


@pytest.mark.parametrize(
    ("key", "value"),
    [("exp_avg", torch.zeros(7)), ("exp_avg_sq", torch.zeros(3, 2)), ("exp_avg", torch.zeros(2, 3, 1))],
)
def test_moments_of_another_shape_are_refused_before_anything_is_taken_over(key, value):
    content, state = _state(100).to_bytes(), _state(7)
    forged = save({**load(content), f"optimizer.weight/{key}": value}, read_metadata(content))
    with pytest.raises(ForeignCheckpointError, match=f"its optimizer is with weight/{key} of shape"):
        state.load_bytes(forged)
    assert torch.equal(state.model.weight, _state(7).model.weight)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"state": "{"},
        {"state": "null"},
        {"state": "[]"},
        {"state": '{"images_seen": "many", "history": []}'},
        {"state": '{"images_seen": 100, "history": 3}'},
        {"state": '{"images_seen": 100}'},
    ],
)
def test_forged_metadata_are_refused_before_anything_is_taken_over(metadata):
    content, state = _state(100).to_bytes(), _state(7)
    with pytest.raises(ForeignCheckpointError):
        state.load_bytes(save(load(content), metadata))
    assert torch.equal(state.model.weight, _state(7).model.weight)


@pytest.fixture
def reported(monkeypatch) -> list[tuple[int, str]]:
    """What Ray Train is given."""
    given: list[tuple[int, str]] = []
    monkeypatch.setattr(checkpoints, "_report_to_ray", lambda images, name: given.append((images, name)))
    return given


def test_a_checkpoint_is_reported_once_it_is_stored(tmp_path, reported):
    writer = CheckpointWriter(str(tmp_path), 0, Restored(None), [])
    for images in (100, 200):
        writer.save(_state(images))
    writer.settle()
    writer.settle()
    assert [images for images, _ in reported] == [100, 200]
    assert [name for _, name in reversed(reported)] == list_checkpoints(str(tmp_path))
    state = _state()
    assert restore(state, str(tmp_path)).name == reported[-1][1]
    assert state.images_seen == 200


@pytest.mark.usefixtures("reported")
def test_what_earlier_attempts_left_goes_once_there_are_two_newer_ones(tmp_path):
    for images in (100, 200, 300):
        _put(tmp_path, images)
    DAMAGE["cut to half"](_put(tmp_path, 400))
    left = begin_attempt(str(tmp_path))
    writer = CheckpointWriter(str(tmp_path), 0, restore(_state(), str(tmp_path)), left)

    def left() -> list[int]:
        return [int(name[7:22]) for name in list_checkpoints(str(tmp_path))]

    assert left() == [400, 300, 200, 100]
    for images, expected in ((400, [400, 300]), (500, [500, 400]), (600, [600, 500, 400])):  # Ray Train removes 400
        writer.save(_state(images))
        writer.settle()
        assert left() == expected
    assert restore(_state(), str(tmp_path)).notes == ()


@pytest.mark.usefixtures("reported")
def test_checkpoints_of_this_attempt_are_rays_to_remove(tmp_path):
    """After a worker's failure the training goes on within the attempt, and Ray Train fails if one of them is gone."""
    left = [_put(tmp_path, 100).name]
    of_this_attempt = [_put(tmp_path, 200).name, _put(tmp_path, 300).name]
    writer = CheckpointWriter(str(tmp_path), 0, restore(_state(), str(tmp_path)), left)
    for images in (400, 500, 600):
        writer.save(_state(images))
        writer.settle()
    assert set(of_this_attempt) < set(list_checkpoints(str(tmp_path)))
    assert not set(left) & set(list_checkpoints(str(tmp_path)))


@pytest.mark.usefixtures("reported")
def test_a_full_disk_is_one_line_and_leaves_what_was_stored(tmp_path, monkeypatch):
    whole = _put(tmp_path, 100)
    writer = CheckpointWriter(str(tmp_path), 0, Restored(None), [])

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(stores, "_write_local", full)
    writer.save(_state(200))
    with pytest.raises(NotStoredError) as caught:
        writer.settle()
    assert isinstance(caught.value.__cause__, UserError)
    assert "No space left on device" in str(caught.value.__cause__)
    assert list_checkpoints(str(tmp_path)) == [whole.name]


def test_other_faults_of_the_first_worker_are_not_taken_for_the_stores():
    def mistake() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store_together(True, mistake)


def _pair(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    place, told = Path(folder), {}
    told["text"] = from_first_worker(f"Größe {rank}\n")
    told["nothing"] = from_first_worker("" if rank == 0 else "something")

    state = _state(7)
    restored = restore(state, folder)
    told["restored"] = [restored.name, len(restored.notes), state.images_seen]

    def fail() -> None:
        raise UserError("no space")

    with pytest.raises(NotStoredError) as caught:
        store_together(rank == 0, fail)
    told["cause"] = str(caught.value.__cause__)

    if rank == 1:  # it sees other files than the first worker
        shutil.copytree(place, place / "other")
        for name in list_checkpoints(folder):
            DAMAGE["empty"](place / "other" / CHECKPOINT_FOLDER / name)
    with pytest.raises(UserError, match="some training workers read this checkpoint, and others do not"):
        restore(_state(7), folder if rank == 0 else str(place / "other"))

    checkpoints._report_to_ray = lambda images, name: told.setdefault("reported", []).append([images, name])
    writer, state.images_seen = CheckpointWriter(folder, rank, restored, []), 250
    writer.save(state)
    writer.settle()
    (place / f"{rank}.json").write_text(json.dumps(told))
    leave(rank, place)


def test_two_workers_go_on_from_the_same_checkpoint_and_stop_together(tmp_path):
    whole, newest = _put(tmp_path, 200), _put(tmp_path, 300)
    DAMAGE["cut to half"](newest)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    train_together(_pair, (port, str(tmp_path)))
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    for told in (first, second):
        assert (told["text"], told["nothing"]) == ("Größe 0\n", "")
        assert told["restored"] == [whole.name, 1, 200]
    assert (first["cause"], second["cause"]) == ("no space", "None")
    (stored,) = (name for name in list_checkpoints(str(tmp_path)) if name.startswith("images_000000000000250-"))
    assert (first["reported"], second["reported"]) == ([[250, stored]], [[250, ""]])
