"""Waiting for a cluster to grow, on a clock of the test's own."""

import pytest

from dpt_ray.distributed import wait_for_nodes as growth


@pytest.fixture
def clock(monkeypatch):
    """A clock that sleeping moves on; returns a function that tells the time."""
    now = [100.0]
    monkeypatch.setattr(growth.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(growth.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return lambda: now[0] - 100.0


def test_it_goes_on_as_soon_as_all_is_there(clock, caplog):
    assert growth.wait_until_there({"GPU": 4}, lambda: {"GPU": 4.0 if clock() >= 7 else 3.0}, seconds=60)
    assert 7 <= clock() < 7 + growth.POLL_SECONDS
    assert [record.message for record in caplog.records] == ["waiting up to 60 s for nodes: the cluster lacks 1 GPUs"]


def test_it_gives_up_on_time(clock):
    assert not growth.wait_until_there({"GPU": 4}, lambda: {"GPU": 3.0}, seconds=9)
    assert clock() == 9


def test_where_nothing_is_missing_nothing_is_said(clock, caplog):
    assert growth.wait_until_there({"GPU": 1, "CPU": 2}, lambda: {"GPU": 1.0, "CPU": 2.0}, seconds=9)
    assert clock() == 0
    assert not caplog.records


def test_what_is_missing_is_named():
    assert growth.missing({"GPU": 2, "CPU": 1.5}, {"CPU": 1.0}) == "0.5 CPUs and 2 GPUs"
    assert growth.missing({"GPU": 2}, {"GPU": 2.0}) == ""
