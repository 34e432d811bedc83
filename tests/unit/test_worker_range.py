"""A training whose number of workers is a range: which numbers there are, and when it shrinks and grows."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.config.load import load_config
from dpt_ray.distributed import grow_workers, placed_workers
from dpt_ray.distributed.cluster import training_wish
from dpt_ray.distributed.grow_workers import GrowWorkers
from dpt_ray.distributed.node_capacity import Node, Wish
from dpt_ray.distributed.placed_workers import PlaceWorkers
from dpt_ray.distributed.placement import Refusal, plan_placement
from dpt_ray.distributed.ray_internals import RunningState
from dpt_ray.errors import UserError


def _cluster(*settings: str):
    return load_config(None, ["preset=cifar10", "data.train=shards", *settings])


@pytest.mark.parametrize(
    ("workers", "lanes", "counts"),
    [("[1,8]", 8, (8, 4, 2, 1)), ("[2,7]", 12, (6, 4, 3, 2)), ("[3,5]", 8, (4,)), ("3", 12, (3,)), ("[2, 2]", 8, (2,))],
)
def test_the_numbers_of_a_range_divide_the_lanes(workers, lanes, counts):
    config = _cluster(f"cluster.workers={workers}", f"data.lanes={lanes}", *_batches(12 * 8))
    wish = training_wish(config.cluster, config.data.lanes)
    assert (wish.workers, *wish.fewer) == counts


def _batches(size: int) -> list[str]:
    names = ("stage1.labelled_batch", "stage1.unlabelled_batch", "stage2.batch", "stage3.labelled_batch")
    return [f"{name}={size}" for name in (*names, "stage3.unlabelled_batch")]


def test_backward_passes_divide_the_images_of_a_lane_too():
    config = _cluster("cluster.workers=[1,8]", "cluster.gradient_accumulation=2")
    assert config.data.lanes == 8
    assert config.cluster.worker_counts(8) == (4, 2, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["cluster.workers=[5,7]"], "data.lanes=8 is a multiple of no number from 5 to 7"),
        (
            ["cluster.workers=[4,2]"],
            r"cluster.workers = \[4, 2\] is not allowed: a number from 0 on, or a range such as \[2, 8\]",
        ),
        (["cluster.workers=[0,2]"], "cluster.workers"),
        (["cluster.workers=[1,2,4]"], "cluster.workers"),
        (["cluster.workers=many"], "cluster.workers"),
        (["cluster.workers=-1"], "cluster.workers"),
    ],
)
def test_other_ranges_are_refused_in_one_line(settings, message):
    with pytest.raises(UserError, match=message) as raised:
        _cluster(*settings)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


nodes_of_any_size = st.lists(
    st.builds(Node, st.uuids().map(str), st.integers(0, 16).map(float), st.integers(0, 4).map(float)), max_size=6
)


@given(nodes=nodes_of_any_size, gpus=st.sampled_from([0.0, 1.0]), cpus=st.sampled_from([None, 1.0, 2.0]))
def test_as_many_workers_as_fit_are_taken(nodes, gpus, cpus):
    wish = Wish(8, cpus, gpus, fewer=(4, 2, 1))
    plan = plan_placement(nodes, wish)
    if isinstance(plan, Refusal):
        assert plan == plan_placement(nodes, Wish(1, cpus, gpus))
        return
    assert sum(node.workers for node in plan.nodes) == plan.wish.workers
    assert plan.wish.workers == 1 or plan.cpus >= 1
    for workers in (8, 4, 2):
        if workers > plan.wish.workers:
            assert isinstance(plan_placement(nodes, Wish(workers, cpus or 1.0, gpus)), Refusal)


@pytest.fixture
def nodes(monkeypatch):
    """The nodes of the cluster, which a test may change."""
    there = [Node("a", 3.0), Node("b", 3.0)]
    for module in (placed_workers, grow_workers):
        monkeypatch.setattr(module, "answering_nodes", lambda: there)
    return there


def test_each_start_takes_the_number_that_the_nodes_host(nodes):
    started: list[int] = []
    callback = PlaceWorkers(Wish(4, 1.0, fewer=(2, 1)), 1.0, 0.0, print, started.append)
    for change in (lambda: None, nodes.pop, lambda: nodes.append(Node("c", 9.0))):
        change()
        decision = SimpleNamespace(num_workers=4, resources_per_worker={"CPU": 1.0})
        callback.before_controller_execute_resize_decision(decision)
        assert decision.num_workers == started[-1]
    assert started == [4, 2, 4]


def test_workers_are_stopped_when_the_nodes_host_more_of_them(nodes, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(grow_workers.time, "monotonic", lambda: now[0])
    stops: list[float] = []
    grow = GrowWorkers(Wish(8, 1.0, fewer=(4, 2, 1)), 60.0, lambda: stops.append(now[0]))
    grow.before_controller_execute_resize_decision(SimpleNamespace(num_workers=4))
    running = RunningState()
    grow.after_controller_state_update(None, running)
    for now[0] in range(1, 130):
        grow.after_controller_state_update(running, running)
    assert stops == []  # 8 workers do not fit, and 6 do not divide the lanes
    nodes.append(Node("c", 5.0))
    for now[0] in range(130, 200):
        grow.after_controller_state_update(running, running)
    assert stops == [180]
    grow.before_controller_execute_resize_decision(SimpleNamespace(num_workers=8))
    grow.after_controller_state_update(None, running)
    nodes.pop()  # a node without workers: the loss of others ends the workers anyway
    for now[0] in range(200, 400):
        grow.after_controller_state_update(running, running)
    assert stops == [180]
