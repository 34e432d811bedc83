"""A job whose Ray has lost a part ends at once with one line and status 75, whatever it waits for."""

import os
import pickle
import threading
from types import SimpleNamespace

import pytest
import ray
from ray.exceptions import RayActorError

from dpt_ray.cli import guard
from dpt_ray.cli.guard import TRY_AGAIN, run_guarded
from dpt_ray.distributed import lost_ray, ray_internals
from dpt_ray.distributed.lost_ray import RayWatch
from dpt_ray.errors import RESUME, TryAgainError

LINE = f"error: Ray's control store (gcs_server) died; {RESUME}\n"


@pytest.fixture
def parts(monkeypatch) -> dict[str, int | None]:
    """Exit statuses of the processes of a local Ray that this process seems to have; None for a living one."""
    statuses: dict[str, int | None] = {"raylet": None, "gcs_server": None}
    processes = {
        kind: [SimpleNamespace(process=SimpleNamespace(poll=lambda kind=kind: statuses[kind]))] for kind in statuses
    }
    node = SimpleNamespace(all_processes=processes)
    monkeypatch.setattr(ray_internals, "_own_node", lambda: node)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(lost_ray, "POLL_SECONDS", 0.001)
    return statuses


def test_living_parts_are_not_lost(parts):
    assert lost_ray.lost_ray() is None
    assert run_guarded(lambda: None) == 0


@pytest.mark.parametrize(("kind", "name"), [("raylet", "node manager (raylet)"), ("gcs_server", "control store")])
def test_a_dead_part_is_named(parts, kind, name):
    parts[kind] = -9
    assert str(lost_ray.lost_ray()).startswith(f"Ray's {name}")


def test_a_job_that_waits_for_a_lock_ends_with_a_line(parts, capsys):
    def job() -> None:
        parts["gcs_server"] = -9
        threading.Event().wait()

    assert run_guarded(job) == TRY_AGAIN == os.EX_TEMPFAIL == 75
    assert capsys.readouterr().err == LINE


def test_a_job_that_ray_ends_first_says_the_same(parts, capsys, monkeypatch):
    monkeypatch.setattr(lost_ray, "POLL_SECONDS", 60)

    def job() -> None:
        parts["gcs_server"] = -9
        raise RayActorError

    assert run_guarded(job) == TRY_AGAIN
    assert capsys.readouterr().err == LINE


def test_a_job_that_does_not_let_itself_be_interrupted_is_ended(parts, capsys, monkeypatch):
    monkeypatch.setattr(lost_ray, "GRACE_SECONDS", 0.001)
    ended = threading.Event()
    statuses: list[int] = []

    def leave(status: int) -> None:
        statuses.append(status)
        ended.set()

    monkeypatch.setattr(guard, "_leave", leave)

    def job() -> None:
        parts["gcs_server"] = -9
        while not ended.is_set():
            try:
                ended.wait()
            except KeyboardInterrupt:
                continue

    assert run_guarded(job) == 0  # the process would have ended
    assert statuses == [TRY_AGAIN]
    assert capsys.readouterr().err == LINE


def test_an_interruption_by_the_user_stays_one(parts, capsys):
    def job() -> None:
        raise KeyboardInterrupt

    assert run_guarded(job) == guard.INTERRUPTED
    assert capsys.readouterr().err == "interrupted: run the same command again to resume\n"


def test_a_cluster_that_is_silent_for_long_is_lost(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(lost_ray.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    part: list[str | None] = ["control store (gcs_server)"]
    monkeypatch.setattr(ray_internals, "silent_part", lambda seconds: part[0])
    watch = RayWatch(lambda error: None)
    assert watch._lost_cluster() is None
    part[0] = None  # it answers again
    now[0] += lost_ray.SILENT_SECONDS
    assert watch._lost_cluster() is None
    part[0] = "control store (gcs_server)"
    assert watch._lost_cluster() is None
    now[0] += lost_ray.SILENT_SECONDS
    assert "control store (gcs_server) does not answer" in str(watch._lost_cluster())


def test_the_error_pickles_and_says_what_to_do_once():
    for error in (TryAgainError("it died"), TryAgainError("it died", where="x", fix="if it dies again, lower y")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is TryAgainError
        assert str(again) == str(error)
        assert str(again).count(RESUME) == 1
