"""Placement as a pure function: every plan fits its nodes, with the largest workers that leave readers their CPUs."""

import math
import random
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpt_ray.distributed.node_capacity import GPU_WORKER_CPUS, LEAST_READER_CPUS, SPARE_CPUS, Node, Wish
from dpt_ray.distributed.placement import Plan, Refusal, plan_inference, plan_placement, readers_beside

NODES = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 64), st.sampled_from([0.5, 1.05, 2.5])),
        st.integers(0, 8),
        st.booleans(),
    ),
    max_size=20,
).map(lambda sizes: [Node(f"node {n}", float(cpus), float(gpus), alive) for n, (cpus, gpus, alive) in enumerate(sizes)])
WISHES = st.builds(
    Wish,
    st.integers(1, 70),
    st.none() | st.sampled_from([0.1, 0.5, 1.0, 1.5, 4.0, 31.0]),
    st.sampled_from([0.0, 0.0, 0.25, 0.6, 1.0, 1.5, 2.0]),
    st.integers(1, 8),
    st.integers(1, 5),
)


def _nodes(*sizes: tuple[float, float]) -> list[Node]:
    return [Node(f"{number}", float(cpus), float(gpus)) for number, (cpus, gpus) in enumerate(sizes)]


def _plan(nodes: list[Node], wish: Wish) -> Plan:
    plan = plan_placement(nodes, wish)
    assert isinstance(plan, Plan), plan
    return plan


def _workers(plan: Plan) -> dict[str, int]:
    return {planned.node.name: planned.workers for planned in plan.nodes}


@settings(max_examples=300, deadline=None)
@given(NODES, WISHES, st.randoms(use_true_random=False))
def test_any_wish_gets_a_plan_that_fits_or_one_line(nodes: list[Node], wish: Wish, shuffle: random.Random):
    plan = plan_placement(nodes, wish)
    others = list(nodes)
    shuffle.shuffle(others)
    assert plan_placement(others, wish) == plan
    if isinstance(plan, Refusal):
        assert plan.what
        assert "\n" not in plan.what + plan.fix + plan.hosting
        return
    assert sum(planned.workers for planned in plan.nodes) == wish.workers * wish.runs
    assert sum(planned.readers for planned in plan.nodes) >= 1
    assert plan.reader_cpus >= LEAST_READER_CPUS
    assert 1 <= plan.readers <= 32
    for planned in plan.nodes:
        assert planned.node.alive
        held = planned.workers * plan.cpus + planned.readers * plan.reader_cpus
        assert held <= planned.node.cpus + 1e-6
        if not planned.workers:
            continue
        assert planned.node.name in plan.hosts
        if wish.gpus_per_worker >= 1:
            assert planned.workers * wish.gpus_per_worker <= planned.node.gpus
        elif wish.gpus_per_worker:  # a share of a GPU lies on one
            assert math.ceil(planned.workers / (1 // wish.gpus_per_worker)) <= planned.node.gpus


def _fits_beside_spare_cpus(nodes: list[Node], wish: Wish, cpus: float) -> bool:
    """By trying every number of workers on every node."""
    slots = 0
    for node in nodes:
        hosted = 0
        while (hosted + 1) * cpus + SPARE_CPUS * math.ceil((hosted + 1) / wish.workers) <= node.cpus + 1e-9:
            hosted += 1
        by_gpus = node.gpus // wish.gpus_per_worker if wish.gpus_per_worker else hosted
        slots += int(min(hosted, by_gpus))
    return slots >= wish.workers * wish.runs


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 24), st.integers(0, 4)), min_size=1, max_size=20),
    st.integers(1, 12),
    st.sampled_from([0.0, 1.0, 2.0]),
    st.integers(1, 3),
)
def test_workers_are_as_large_as_spare_cpus_allow(sizes, workers: int, gpus: float, runs: int):
    nodes = _nodes(*sizes)
    wish = Wish(workers, gpus_per_worker=gpus, runs=runs)
    without_gpus = [node for node in nodes if not node.gpus]
    groups = [nodes] if gpus or not without_gpus else [without_gpus, nodes]
    most = GPU_WORKER_CPUS if gpus else 24.0
    considered = [*range(int(most), 0, -1), *(n / 100 for n in range(99, math.ceil(10 / workers) - 1, -1))]
    fitting = ([cpus for cpus in considered if _fits_beside_spare_cpus(group, wish, cpus)] for group in groups)
    best = next(chain.from_iterable(fitting), None)
    if best is not None:
        plan = _plan(nodes, wish)
        assert plan.cpus == pytest.approx(best)


def _earlier_size(cpus: float, workers: int, gpus: float, runs: int) -> float:
    """The rule for one node, by which the threads of earlier results were chosen."""
    share = max(0.1, cpus / runs - 1.0) / workers
    share = min(share, 4.0) if gpus else share
    return float(int(share)) if share >= 1 else math.floor(100 * share + 1e-9) / 100


@given(st.integers(1, 256), st.integers(1, 10), st.sampled_from([0.0, 1.0]), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_one_node_hosts_the_same_as_ever(cpus: int, workers: int, gpus: float, runs: int):
    plan = plan_placement(_nodes((cpus, gpus * workers * runs)), Wish(workers, None, gpus, 1, runs))
    size = _earlier_size(cpus, workers, gpus, runs)
    if size * workers + LEAST_READER_CPUS > cpus / runs:
        assert isinstance(plan, Refusal)
        return
    assert isinstance(plan, Plan)
    assert plan.cpus == pytest.approx(size)
    left = cpus / runs - workers * size
    reader_cpus = max(LEAST_READER_CPUS, min(1.0, math.floor(100 * left + 1e-9) / 100))
    assert plan.reader_cpus == pytest.approx(reader_cpus)
    assert plan.readers == max(1, min(32, int(left / reader_cpus + 1e-6)))


def test_a_worker_is_no_larger_than_a_node():
    plan = _plan(_nodes(*[(8, 0)] * 4), Wish(1))
    assert plan.cpus == 7
    assert plan.readers == 25


def test_workers_with_gpus_fit_the_node_that_has_them():
    plan = _plan(_nodes((64, 0), (16, 8)), Wish(8, gpus_per_worker=1))
    assert _workers(plan) == {"1": 8, "0": 0}
    assert plan.cpus == 1
    assert sum(planned.readers for planned in plan.nodes) == 72


def test_workers_without_gpus_leave_nodes_with_gpus_to_others():
    plan = _plan(_nodes((64, 8), (16, 0), (16, 0)), Wish(2))
    assert _workers(plan) == {"0": 0, "1": 1, "2": 1}
    assert plan.cpus == 15
    assert plan.hosts == {"1", "2"}
    assert _plan(_nodes((64, 8)), Wish(2)).cpus == 31  # there is no other node


def test_a_head_without_cpus_is_no_node():
    assert _plan(_nodes((0, 0), (4, 0)), Wish(1)) == _plan([Node("1", 4.0)], Wish(1))
    assert _plan([Node("1", 4.0), Node("2", 64.0, alive=False)], Wish(1)).cpus == 3
    assert readers_beside(_nodes((0, 0), (2, 0)), Wish(1, 1.5)) == (1, 0.5)


def test_readers_may_be_on_another_node_than_large_workers():
    plan = _plan(_nodes((8, 0), (8, 0)), Wish(3, 4.0))
    assert sum(planned.readers for planned in plan.nodes) == 4
    assert _plan(_nodes(*[(1, 0)] * 4), Wish(4)).cpus == 0.5


@pytest.mark.parametrize(
    ("sizes", "wish", "line"),
    [
        ([(8, 0)] * 4, Wish(1, 16.0), "a worker of 16 CPUs and a reader of 0.25 CPUs do not fit on the nodes: 4 nodes"),
        ([(7, 0)] * 2, Wish(3, 4.0), "3 workers of 4 CPUs each and a reader of 0.25 CPUs do not fit on the nodes: "
         "2 nodes of 7 CPUs for 1 each"),
        ([(2, 0)], Wish(1, 3.0), "3.25 CPUs are needed but the cluster has 2"),
        ([(0, 0)], Wish(1), "0.35 CPUs are needed but the cluster has 0"),
        ([(4, 1), (4, 1)], Wish(1, gpus_per_worker=2), "a worker of 2 GPUs and 0.1 CPUs and a reader"),
        ([(4, 1)], Wish(2, gpus_per_worker=1), "2 GPUs are needed but the cluster has 1"),
        ([(4, 4)], Wish(1, gpus_per_worker=1.5), "1.5 GPUs are neither a share of one GPU nor whole GPUs"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_the_nodes_host(sizes, wish: Wish, line: str):
    refusal = plan_placement(_nodes(*sizes), wish)
    assert isinstance(refusal, Refusal)
    assert refusal.what.startswith(line)


def test_inference_takes_what_each_node_hosts():
    assert plan_inference(_nodes((2.5, 0), (1.5, 0), (0, 0)), 1.0, 0.0) == 3
    assert plan_inference(_nodes((1, 8), (64, 0)), 0.5, 1.0) == 2
    assert plan_inference(_nodes((4, 2)), 0.5, 0.4) == 4
    refusal = plan_inference(_nodes((0.5, 0)), 1.0, 0.0)
    assert isinstance(refusal, Refusal)
    assert refusal.what == "a process of 1 CPUs fits on no node: 1 node of 0.5 CPUs for 0"


def test_readers_take_small_pieces_if_they_use_more_cpus_so():
    assert readers_beside(_nodes((2, 0), (2, 0), (2, 0)), Wish(3, 1.5)) == (3, 0.5)
    assert readers_beside(_nodes((3, 0), (2, 0)), Wish(2, 1.5)) == (2, 1.0)
    assert readers_beside(_nodes((16, 0)), Wish(0, 0.0, 0.0, 3)) == (5, 1.0)
