"""A training whose number of workers is a range: which numbers there are, and when it shrinks and grows."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.config.load import load_config
from dpt_ray.core.worker_lanes import worker_lanes
from dpt_ray.distributed import grow_workers, placed_workers
from dpt_ray.distributed.grow_workers import GrowWorkers
from dpt_ray.distributed.node_capacity import Node, Wish
from dpt_ray.distributed.placed_workers import PlaceWorkers
from dpt_ray.distributed.placement import Refusal, plan_placement
from dpt_ray.distributed.ray_internals import RunningState
from dpt_ray.distributed.resources import training_wish
from dpt_ray.errors import UserError


def _cluster(*settings: str):
    return load_config(None, ["preset=cifar10", "data.train=shards", *settings])


@pytest.mark.parametrize(
    ("workers", "lanes", "counts"),
    [("[1,5]", 8, (5, 4, 3, 2, 1)), ("[2,7]", 4, (4, 3, 2)), ("[3,3]", 8, (3,)), ("3", 8, (3,)), ("7", 8, (7,))],
)
def test_any_number_of_a_range_up_to_the_lanes_may_be_taken(workers, lanes, counts):
    config = _cluster(f"cluster.workers={workers}", f"data.lanes={lanes}", *_batches(64))
    wish = training_wish(config.cluster, config.data.lanes)
    assert (wish.workers, *wish.fewer) == counts


def _batches(size: int) -> list[str]:
    names = ("stage1.labelled_batch", "stage1.unlabelled_batch", "stage2.batch", "stage3.labelled_batch")
    return [f"{name}={size}" for name in (*names, "stage3.unlabelled_batch")]


def test_each_backward_pass_of_a_worker_takes_a_lane():
    config = _cluster("cluster.workers=[1,8]", "cluster.gradient_accumulation=3")
    assert config.data.lanes == 8
    assert config.cluster.worker_counts(8) == (2, 1)


@pytest.mark.parametrize("preset", ["imagenet256_l", "imagenet256_h"])
@pytest.mark.parametrize("workers", [1, 3, 7, 100, 255, 256])
def test_the_imagenet_presets_train_with_any_number_of_workers_up_to_256(preset, workers):
    config = load_config(None, [f"preset={preset}", "data.train=shards", f"cluster.workers={workers}"])
    lanes = [worker_lanes(config.data.lanes, rank, workers) for rank in range(workers)]
    assert min(map(len, lanes)) >= 1
    with pytest.raises(UserError, match="257 is more than 256"):
        load_config(None, [f"preset={preset}", "data.train=shards", "cluster.workers=257"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["cluster.workers=9"], "cluster.workers must be at most data.lanes.*: 9 is more than 8"),
        (["cluster.workers=[9,12]"], "cluster.workers must be at most data.lanes.*: 9 is more than 8"),
        (
            ["cluster.workers=[3,12]", "cluster.gradient_accumulation=3"],
            "cluster.workers times cluster.gradient_accumulation=3 must be at most data.lanes.*: 9 is more than 8",
        ),
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
    wish = Wish(8, cpus, gpus, fewer=tuple(range(7, 0, -1)))
    plan = plan_placement(nodes, wish)
    if isinstance(plan, Refusal):
        assert plan == plan_placement(nodes, Wish(1, cpus, gpus))
        return
    assert sum(node.workers for node in plan.nodes) == plan.wish.workers
    assert plan.wish.workers == 1 or plan.cpus >= 1
    for workers in range(2, 9):
        if workers > plan.wish.workers:
            assert isinstance(plan_placement(nodes, Wish(workers, cpus or 1.0, gpus)), Refusal)


@pytest.fixture
def nodes(monkeypatch):
    """The nodes of the cluster, which a test may change."""
    there = [Node("a", 3.25), Node("b", 2.0)]
    for module in (placed_workers, grow_workers):
        monkeypatch.setattr(module, "answering_nodes", lambda: there)
    return there


def test_each_start_takes_the_number_that_the_nodes_host(nodes):
    started: list[int] = []
    callback = PlaceWorkers(Wish(4, 1.0, fewer=(3, 2, 1)), 1.0, 0.0, print, started.append)
    for change in (lambda: None, nodes.pop, lambda: nodes.append(Node("c", 9.0))):
        change()
        decision = SimpleNamespace(num_workers=4, resources_per_worker={"CPU": 1.0})
        callback.before_controller_execute_resize_decision(decision)
        assert decision.num_workers == started[-1]
    assert started == [4, 3, 4]


def test_workers_are_stopped_when_the_nodes_host_more_of_them(nodes, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(grow_workers.time, "monotonic", lambda: now[0])
    stops: list[float] = []
    grow = GrowWorkers(Wish(8, 1.0, fewer=tuple(range(7, 0, -1))), 60.0, lambda: stops.append(now[0]))
    grow.before_controller_execute_resize_decision(SimpleNamespace(num_workers=5))
    running = RunningState()
    grow.after_controller_state_update(None, running)
    for now[0] in range(1, 130):
        grow.after_controller_state_update(running, running)
    assert stops == []  # the nodes host no more than those that run
    nodes.append(Node("c", 1.0))
    for now[0] in range(130, 200):
        grow.after_controller_state_update(running, running)
    assert stops == [180]
    grow.before_controller_execute_resize_decision(SimpleNamespace(num_workers=6))
    grow.after_controller_state_update(None, running)
    nodes.pop()  # a node without workers: the loss of others ends the workers anyway
    for now[0] in range(200, 400):
        grow.after_controller_state_update(running, running)
    assert stops == [180]
