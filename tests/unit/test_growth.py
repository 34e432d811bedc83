"""Waiting for a cluster to grow, on a clock of the test's own."""

import pytest

from dpt_ray.distributed import wait_for_nodes as growth
from dpt_ray.distributed.node_capacity import Node, Wish
from dpt_ray.distributed.placement import Plan, Refusal, plan_placement


@pytest.fixture
def clock(monkeypatch):
    """A clock that sleeping moves on; returns a function that tells the time."""
    now = [100.0]
    monkeypatch.setattr(growth.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(growth.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return lambda: now[0] - 100.0


def _find(nodes):
    """Look for a place for two workers with GPUs on the nodes that `nodes` returns."""
    return lambda: plan_placement(nodes(), Wish(2, gpus_per_worker=1))


def test_it_goes_on_as_soon_as_the_workers_fit(clock, caplog):
    small, large = [Node("a", 4, 1)], [Node("a", 4, 1), Node("b", 4, 1)]
    found = growth.wait_until_found(_find(lambda: large if clock() >= 67 else small), seconds=600)
    assert isinstance(found, Plan)
    assert 67 <= clock() < 67 + growth.POLL_SECONDS
    missing = "2 GPUs are needed but the cluster has 1 (1 node of 4 CPUs and 1 GPUs for 1)"
    assert [record.message for record in caplog.records] == [
        f"warning: waiting for nodes, {waited} of at most 600 s: {missing}" for waited in (0, 30, 60)
    ]


def test_it_gives_up_on_time(clock):
    assert isinstance(growth.wait_until_found(_find(lambda: []), seconds=9), Refusal)
    assert clock() == 9


def test_where_nothing_is_missing_nothing_is_said(clock, caplog):
    found = growth.wait_until_found(_find(lambda: [Node("a", 8, 2)]), seconds=9)
    assert isinstance(found, Plan)
    assert clock() == 0
    assert not caplog.records


def test_a_fixed_cluster_is_looked_at_once(clock):
    looks = []
    refusal = Refusal("too small", "use a larger one", "")
    assert growth.wait_for_nodes(lambda: looks.append(1) or refusal, {"CPU": 1.0}, 1, seconds=0) is refusal
    assert (len(looks), clock()) == (1, 0)
