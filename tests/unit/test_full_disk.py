"""A disk that cannot be written ends every step with one line, at whichever file; the same command then goes on."""

import errno
import itertools
import os
import pickle
import re
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pyarrow
import pytest
import ray.exceptions
from ray.train import WorkerGroupError
from ray.train.v2.api.exceptions import ControllerError
from run_in_process import without_ray

from dpt_ray.cli.guard import USER_MISTAKE, run_guarded
from dpt_ray.cli.job import run_job
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.faults import storage_fault
from dpt_ray.distributed.failures import user_error
from dpt_ray.distributed.temporary_space import LEAST_BYTES, check_temporary_space
from dpt_ray.errors import UserError
from dpt_ray.pipeline.run_report import finish_run

FAULTS = {
    errno.ENOSPC: "No space left on device",
    errno.EDQUOT: "Disk quota exceeded",
    errno.EROFS: "Read-only file system",
    errno.EACCES: "ermission denied",
    errno.EIO: "Input/output error",
}
TINY = [
    "data.images_per_shard=1000",
    "stage1.model.width=4",
    "stage2.model.dim=16",
    "stage2.model.depth=2",
    "stage2.model.heads=2",
    "stage2.conditioning.least_confidence=0.05",
    "sampling.per_class=2",
    "sampling.steps=2",
]


def _job(root: Path) -> int:
    arguments = [word for setting in [*TINY, f"root={root}"] for word in ("--set", setting)]
    return run_job("test", lambda run: run.steps(), finish_run, arguments)


def _kind(path: Path, root: Path) -> str:
    """What tells a file from others, without what differs from one attempt to the next."""
    return re.sub(r"-[0-9a-f]{16,}|\d{8}-\d{6}-\d{3}", "", str(path.relative_to(root)))


class Disk:
    """A disk on which every file fails to be written the first time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path):
        self._root, self._write = root, stores._write_local
        self._numbers = itertools.cycle(FAULTS)
        self.failed: dict[str, tuple[str, str]] = {}
        """What failed -> its path, and what the disk said."""
        monkeypatch.setattr(stores, "_write_local", self._write_local)

    def _write_local(self, path: Path, data: bytes) -> None:
        kind = _kind(path, self._root)
        if kind not in self.failed:
            number = next(self._numbers)
            self.failed[kind] = str(path), FAULTS[number]
            raise OSError(number, os.strerror(number), str(path))
        self._write(path, data)


def test_every_file_of_every_step_may_fail_once(monkeypatch, tmp_path, capsys):
    without_ray(monkeypatch)
    disk = Disk(monkeypatch, tmp_path)
    before = 0
    while (status := _job(tmp_path)) != 0:
        assert status == USER_MISTAKE
        told = capsys.readouterr().err
        assert "Traceback" not in told
        last = told.strip().splitlines()[-1]
        path, reason = list(disk.failed.values())[before]  # then perhaps what records the failure
        before = len(disk.failed)
        assert re.fullmatch(rf"error: {re.escape(path)}: cannot be written \(.*{reason}.*\); .+", last)
        assert len(disk.failed) < 500
    kinds = {name.partition("/")[0] for name in disk.failed}
    assert kinds >= {"shards", "dataset", "labelled_subset", "classifier", "predictions", "generator", "pseudo_images"}
    assert kinds >= {"conditioning_labels", "evaluation", "runs"}
    assert any("checkpoints" in name for name in disk.failed)
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("number", FAULTS)
@pytest.mark.parametrize("call", ["mkdir", "open", "fsync", "replace"])
def test_every_part_of_a_write_may_fail_and_leaves_the_old_file(monkeypatch, tmp_path, number, call):
    url, reason = str(tmp_path / "folder" / "file"), FAULTS[number]
    stores.write_bytes(url, b"old")

    def fail(*arguments, **options):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        place = {"mkdir": Path, "open": stores, "fsync": os, "replace": os}[call]
        patch.setattr(place, call, fail, raising=False)
        with pytest.raises(UserError, match=rf"{url}: cannot be written \(.*{reason}.*\); "):
            stores.write_bytes(url, b"new")
    assert stores.read_bytes(url) == b"old"
    assert os.listdir(tmp_path / "folder") == ["file"]


def _full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", "/disk/file")


def _raised(error: BaseException) -> BaseException:
    """Return the error as code that handled another one, or raised it on, would leave it."""
    try:
        raise RuntimeError("a library's own words") from error
    except RuntimeError as caught:
        return caught


TOLD = "/disk/file: cannot be used (No space left on device); free some space there; the same command then goes on"
WRAPPED = {
    "plain": _full(),
    "pickled": pickle.loads(pickle.dumps(_full())),
    "cause": _raised(_full()),
    "a worker of Ray Train": WorkerGroupError("it failed", {0: ValueError("another"), 1: _full()}),
    "its controller": ControllerError(_full()),
    "its controller, of a worker": ControllerError(WorkerGroupError("it failed", {1: _raised(_full())})),
    "a task": ray.exceptions.RayTaskError("f", "Traceback ...", _full()),
    "text": RuntimeError("Traceback ...\nOSError: [Errno 28] No space left on device: '/disk/file'\nmore"),
    "pyarrow": OSError("[Errno 28] Error writing '/disk/file'. Detail: [errno 28] No space left on device"),
    "arrow": pyarrow.ArrowException("IOError: No space left on device. Detail: [errno 28] '/disk/file'"),
}


@pytest.mark.parametrize("error", WRAPPED.values(), ids=WRAPPED.keys())
def test_a_full_disk_is_one_line_however_it_comes_back(error, capsys):
    assert str(user_error(error)) == TOLD

    def job() -> None:
        raise error

    assert run_guarded(job) == USER_MISTAKE
    assert capsys.readouterr().err == f"error: {TOLD}\n"


def test_what_our_own_code_said_comes_first():
    inner = UserError("cannot be written (No space left on device)", where="/ours")
    inner.__cause__ = _full()
    assert user_error(WorkerGroupError("it failed", {0: _full(), 1: inner})) is inner


def test_rays_full_disk_names_its_folder():
    told = str(user_error(ray.exceptions.OutOfDiskError("no room")))
    assert told.startswith("/")
    assert "disk of Ray's temporary folder is nearly full" in told
    assert user_error(ray.exceptions.RaySystemError("OutOfDiskError: the local object store is full")) is not None


def test_a_temporary_folder_without_room_is_told_before_ray_is_started(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    check_temporary_space()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=LEAST_BYTES - 1))
    with pytest.raises(UserError, match=rf"{tmp_path}: has 32.0 MiB left.*set RAY_TMPDIR"):
        check_temporary_space()
    monkeypatch.delenv("RAY_TMPDIR")
    with pytest.raises(UserError, match=rf"{tempfile.gettempdir()}: has 32.0 MiB left"):
        check_temporary_space()

    def nowhere() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    with pytest.raises(UserError, match="no folder for temporary files can be written"):
        check_temporary_space()


def test_a_temporary_folder_that_is_not_there_yet_is_rays_to_make(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "later"))
    check_temporary_space()


def test_a_mistake_in_the_code_stays_one():
    for mistake in (
        KeyError(28),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        RuntimeError("[Errno 2] No such file or directory"),
        RuntimeError("error 28"),
        PermissionError(errno.EPERM, "Operation not permitted"),
        RuntimeError("[Errno 13] Permission denied"),
    ):
        assert storage_fault(mistake) is None
        assert user_error(mistake) is None


def _mistake_of_a_handler() -> None:
    try:
        raise PermissionError(errno.EACCES, "Permission denied", "/x")
    except PermissionError:
        {}["a mistake of whoever handled it"]


def test_what_was_handled_when_a_mistake_came_is_not_the_cause():
    with pytest.raises(KeyError) as caught:
        _mistake_of_a_handler()
    assert user_error(caught.value) is None
