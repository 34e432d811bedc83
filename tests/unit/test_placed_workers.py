"""What Ray Train's workers reserve at each start: planned on the nodes that are there, within bounds of time."""

import socket
from types import SimpleNamespace

import pytest

from dpt_ray.distributed import cluster_nodes, placed_workers, ray_internals
from dpt_ray.distributed.node_capacity import Node, Wish
from dpt_ray.distributed.placed_workers import HELD_SECONDS, MOST_FAILED_STARTS, PlaceWorkers
from dpt_ray.distributed.ray_internals import (
    RunningState,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
)
from dpt_ray.errors import UserError


@pytest.fixture
def clock(monkeypatch):
    """A clock that sleeping moves on, as a list with the time."""
    now = [100.0]
    monkeypatch.setattr(placed_workers.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(placed_workers.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


@pytest.fixture
def nodes(monkeypatch):
    """The nodes of the cluster, which a test may change."""
    there = [Node("a", 2.0), Node("b", 2.0)]
    monkeypatch.setattr(placed_workers, "answering_nodes", lambda: there)
    return there


def _start(callback: PlaceWorkers, workers: int = 2) -> dict[str, float]:
    decision = SimpleNamespace(num_workers=workers, resources_per_worker={"CPU": 1.0})
    callback.before_controller_execute_resize_decision(decision)
    return decision.resources_per_worker


def test_after_the_loss_of_a_node_workers_leave_readers_cpus(clock, nodes):
    lines: list[str] = []
    callback = PlaceWorkers(Wish(2), 1.0, 0.0, lambda event: lines.append(event.text))
    assert _start(callback) == {"CPU": 1.0}
    callback.after_controller_state_update(None, RunningState())
    nodes.pop()
    assert _start(callback) == {"CPU": 0.5}
    callback.after_controller_state_update(None, RunningState())
    nodes.extend([Node("c", 8.0), Node("d", 8.0)])
    assert _start(callback) == {"CPU": 1.0}  # no more than at first
    assert lines == ["each worker reserves 0.5 instead of 1 CPUs, as nodes are missing"]


def test_workers_without_gpus_stay_off_nodes_with_gpus(clock, nodes):
    callback = PlaceWorkers(Wish(2), 1.0, 0.0, print)
    _start(callback)
    assert callback.on_controller_start_worker_group(scaling_config=None, num_workers=2) is None
    nodes.append(Node("c", 64.0, 8.0))
    _start(callback)
    chosen = callback.on_controller_start_worker_group(scaling_config=None, num_workers=2)
    assert chosen == {"ray.io/node-id": "in(a,b)"}
    nodes[1:] = [Node("b", 2.0, alive=False)]  # Ray itself has not noticed yet that it is lost
    _start(callback)
    chosen = callback.on_controller_start_worker_group(scaling_config=None, num_workers=2)
    assert chosen == {"ray.io/node-id": "in(a)"}


def test_what_no_longer_fits_a_fixed_cluster_is_refused_at_once(clock, nodes):
    callback = PlaceWorkers(Wish(2, 1.5), 1.5, 0.0, print)
    nodes.pop()
    with pytest.raises(UserError, match=r"3.25 CPUs are needed but the cluster has 2"):
        _start(callback)
    assert clock[0] == 100


def test_on_a_cluster_that_grows_ray_tries_again_until_the_time_is_over(clock, nodes):
    lines: list[str] = []
    callback = PlaceWorkers(Wish(2, 1.5), 1.5, 70.0, lambda event: lines.append(event.text))
    lost = nodes.pop()
    while clock[0] < 165:
        with pytest.raises(WorkerGroupStartupTimeoutError):
            _start(callback)
    assert lines == [
        f"waiting for nodes, {waited} of at most 70 s: 3.25 CPUs are needed but the cluster has 2 "
        "(1 node of 2 CPUs for 1)" for waited in (0, 30, 60)
    ]  # fmt: skip
    nodes.append(lost)
    assert _start(callback) == {"CPU": 1.5}
    callback.after_controller_state_update(None, RunningState())
    nodes.pop()
    with pytest.raises(WorkerGroupStartupTimeoutError):
        _start(callback)
    clock[0] += 70
    with pytest.raises(UserError, match=r"3.25 CPUs are needed"):
        _start(callback)


def test_cpus_that_other_work_holds_are_waited_for_with_a_line(clock, nodes):
    lines: list[str] = []
    callback = PlaceWorkers(Wish(2), 1.0, 0.0, lambda event: lines.append(event.text))
    _start(callback)
    clock[0] += 30
    _start(callback)
    assert lines == ["waiting for CPUs or GPUs that other work holds, 30 s"]
    clock[0] += HELD_SECONDS
    with pytest.raises(UserError, match="2 workers of 1 CPUs each found no free nodes in 2430 s"):
        _start(callback)


def test_workers_that_fail_at_several_starts_end_the_training(clock, nodes):
    callback = PlaceWorkers(Wish(2), 1.0, 0.0, print)
    failed = SimpleNamespace(controller_failure=WorkerGroupStartupFailedError("no torch"))
    state = SimpleNamespace(training_failed_error=failed)
    for _ in range(MOST_FAILED_STARTS - 1):
        callback.after_controller_state_update(None, state)
    with pytest.raises(RuntimeError, match="failed at 3 starts: no torch"):
        callback.after_controller_state_update(None, state)


def test_a_node_that_does_not_answer_is_lost(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as answering, socket.create_server(("127.0.0.1", 0)) as closed:
        ports = [server.getsockname()[1] for server in (answering, closed)]
        closed.close()
        listed = [
            {"NodeID": str(port), "Alive": True, "Resources": {"CPU": 2.0}, "NodeManagerAddress": "127.0.0.1",
             "NodeManagerPort": port} for port in ports
        ]  # fmt: skip
        gone = {"NodeID": "gone", "Alive": False, "Resources": {}, "NodeManagerAddress": "", "NodeManagerPort": 0}
        monkeypatch.setattr("ray.nodes", lambda: [*listed, gone])
        monkeypatch.setattr(ray_internals, "draining_nodes", dict)
        assert [node.alive for node in cluster_nodes.answering_nodes()] == [True, False, False]
        monkeypatch.setattr(ray_internals, "draining_nodes", lambda: {str(ports[0]): None})
        assert [node.alive for node in cluster_nodes.answering_nodes()] == [False, False, False]
        assert [node.alive for node in cluster_nodes.cluster_nodes()] == [False, True, False]
