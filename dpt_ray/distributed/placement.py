"""Plans what each node of a cluster hosts, from the sizes of the nodes alone. It needs no Ray.

A process runs on one node, so a cluster of many small nodes does not host what its total would.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dpt_ray.distributed.node_capacity import (
    HUNDREDTH,
    LEAST_READER_CPUS,
    MOST_READERS,
    READER_CPUS,
    SPARE_CPUS,
    UNIT,
    Node,
    Wish,
    fill,
    most_workers,
    placements,
    sizes_considered,
    units,
)


@dataclass(frozen=True)
class NodePlan:
    """What one node hosts.

    Attributes:
        node: the node.
        workers: training workers on it, of all runs.
        readers: read tasks that run on it beside them.
    """

    node: Node
    workers: int
    readers: int


@dataclass(frozen=True)
class Plan:
    """Where the workers and readers of a wish run.

    Attributes:
        wish: the wish.
        cpus: CPUs of each worker.
        reader_cpus: CPUs of each read task.
        nodes: the usable nodes, those with most workers first.
        hosts: names of the nodes on which workers may run.
    """

    wish: Wish
    cpus: float
    reader_cpus: float
    nodes: tuple[NodePlan, ...]
    hosts: frozenset[str]

    @property
    def readers(self) -> int:
        """Read tasks that each stream runs at the same time."""
        total = sum(node.readers for node in self.nodes)
        return max(1, min(MOST_READERS, total // (self.wish.streams * self.wish.runs)))


@dataclass(frozen=True)
class Refusal:
    """Why a wish does not fit.

    Attributes:
        what: what is wrong.
        fix: what to do.
        hosting: how many workers each kind of node hosts.
    """

    what: str
    fix: str
    hosting: str


def plan_placement(nodes: Sequence[Node], wish: Wish, place: str = "the cluster") -> Plan | Refusal:
    """Return where the workers of a wish run, with the largest workers that leave readers the CPUs they need.

    Where fewer workers will do, more of them go before larger ones, as long as each has a whole CPU. A refusal is that
    of the fewest.

    The rules are those of `node_capacity.placements`.

    Args:
        nodes: all nodes of the cluster; those that are not usable are left out.
        wish: what a run needs.
        place: name of the cluster in a refusal.
    """
    usable = sorted((node for node in nodes if node.usable), key=lambda node: (-node.gpus, -node.cpus, node.name))
    if wish.gpus_per_worker > 1 and wish.gpus_per_worker % 1:
        return Refusal(f"{wish.gpus_per_worker:g} GPUs are neither a share of one GPU nor whole GPUs", _FIX_GPUS, "")
    *choices, last = wish.choices()
    hosted = sum(most_workers(node, wish, max(1, units(wish.cpus_per_worker or 1))) for node in usable)
    # Those that need more room than the nodes have are not searched: a range may have hundreds of numbers.
    for choice in (*(choice for choice in choices if choice.workers * choice.runs <= hosted), last):
        least = UNIT if wish.cpus_per_worker is None and choice is not last else 0
        for size, group, counts in placements(usable, choice):
            if size < least:
                continue
            plan = _with_readers(usable, choice, size, counts)
            if plan is not None:
                return replace(plan, hosts=frozenset(node.name for node in group))
    return _refusal(usable, last, place)


def _with_readers(usable: Sequence[Node], wish: Wish, size: int, counts: dict[str, int]) -> Plan | None:
    """Return the plan with the readers that fit beside the workers; None if none fits."""
    left, shares = {}, set()
    for node in usable:
        workers = counts.get(node.name, 0)
        left[node.name] = units(node.cpus) - workers * size
        share = left[node.name] // (max(1, -(-workers // wish.workers)) if wish.workers else wish.runs)
        shares.add(min(units(READER_CPUS), share // HUNDREDTH * HUNDREDTH))
    shares = {share for share in shares if share >= units(LEAST_READER_CPUS)} or {units(LEAST_READER_CPUS)}
    # The amount with which readers use the most CPUs: they may be left in small pieces on many nodes.
    cpus = max(shares, key=lambda share: (sum(free // share for free in left.values()) * share, share))
    nodes = [NodePlan(node, counts.get(node.name, 0), left[node.name] // cpus) for node in usable]
    if not any(node.readers for node in nodes):
        return None
    nodes.sort(key=lambda node: -node.workers)
    return Plan(wish, size / UNIT, cpus / UNIT, tuple(nodes), frozenset(counts))


_FIX_CPUS = "lower cluster.workers or cluster.cpus_per_worker, or use a larger cluster"
_FIX_GPUS = "lower cluster.workers or cluster.gpus_per_worker, or use a larger cluster"

_FIX_NODES = "use a cluster with larger nodes"


def _refusal(usable: Sequence[Node], wish: Wish, place: str) -> Refusal:
    """Return the reason why a wish does not fit: the totals, or the sizes of the nodes."""
    size = wish.cpus_per_worker or sizes_considered(usable, wish)[-1] / UNIT
    hosting = _describe_hosting(usable, wish, size)
    needed = wish.gpus_per_worker * wish.workers
    gpus = sum(node.gpus for node in usable) / wish.runs
    if needed > gpus + 1e-6:
        return Refusal(f"{needed:g} GPUs are needed but {place} has {gpus:g}", _FIX_GPUS, hosting)
    needed, cpus = size * wish.workers + LEAST_READER_CPUS, sum(node.cpus for node in usable) / wish.runs
    if needed > cpus + 1e-6:
        return Refusal(f"{needed:g} CPUs are needed but {place} has {cpus:g}", _FIX_CPUS, hosting)
    worker = _describe_process(size, wish.gpus_per_worker)
    count = f"{wish.workers} workers of {worker} each" if wish.workers > 1 else f"a worker of {worker}"
    fix = _FIX_GPUS if wish.gpus_per_worker else _FIX_CPUS
    what = f"{count} and a reader of {LEAST_READER_CPUS:g} CPUs do not fit on the nodes: {hosting}"
    return Refusal(what, fix, hosting)


def _describe_process(cpus: float, gpus: float) -> str:
    return f"{gpus:g} GPUs and {cpus:g} CPUs" if gpus else f"{cpus:g} CPUs"


def _describe_hosting(usable: Sequence[Node], wish: Wish, cpus: float) -> str:
    """Return how many workers of a number of CPUs each kind of node hosts, as text."""
    kinds: dict[tuple[float, float], list[Node]] = {}
    for node in usable:
        kinds.setdefault((node.cpus, node.gpus), []).append(node)
    parts = []
    for (has_cpus, has_gpus), nodes in kinds.items():
        count = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
        gpus = f" and {has_gpus:g} GPUs" if has_gpus or wish.gpus_per_worker else ""
        workers = most_workers(nodes[0], wish, max(1, units(cpus)))
        parts.append(f"{count} of {has_cpus:g} CPUs{gpus} for {workers}{' each' if len(nodes) > 1 else ''}")
    return ", ".join(parts) or "no node has CPUs"


def plan_inference(nodes: Sequence[Node], cpus: float, gpus: float) -> int | Refusal:
    """Return how many processes of batch inference the nodes host, or why they host none.

    Args:
        nodes: all nodes of the cluster.
        cpus: CPUs of each process.
        gpus: GPUs of each process.
    """
    usable, wish = [node for node in nodes if node.usable], Wish(1, cpus, gpus)
    slots = sum(most_workers(node, wish, units(cpus)) for node in usable)
    if slots:
        return slots
    hosting, has_gpus = _describe_hosting(usable, wish, cpus), sum(node.gpus for node in usable)
    if gpus > has_gpus + 1e-6:
        return Refusal(f"{gpus:g} GPUs are needed but the cluster has {has_gpus:g}", _FIX_GPUS, hosting)
    return Refusal(f"a process of {_describe_process(cpus, gpus)} fits on no node: {hosting}", _FIX_NODES, hosting)


def fitting_runs(nodes: Sequence[Node], wish: Wish) -> int:
    """Return how many runs share the nodes: each has a CPU for each worker, or what the wish says, and `SPARE_CPUS`.

    Workers without GPUs of a size that is left open get smaller where runs share a node, so they need nothing spare.
    """
    size = wish.cpus_per_worker or 1.0
    spare = 0.0 if wish.cpus_per_worker is None and not wish.gpus_per_worker else SPARE_CPUS
    capacities = [most_workers(node, wish, units(size), each_run=units(spare)) for node in nodes if node.usable]
    return sum(capacities) // wish.workers


def readers_beside(nodes: Sequence[Node], wish: Wish) -> tuple[int, float]:
    """Return the number of read tasks of each stream and the CPUs of each, beside workers that run already.

    Where the nodes do not host all workers, as while a node is lost, readers get what those that fit leave.

    Args:
        nodes: all nodes of the cluster.
        wish: the workers, with their CPUs, and the streams; without workers, readers have all CPUs.
    """
    usable = [node for node in nodes if node.usable]
    size = max(1, units(wish.cpus_per_worker or 0))
    capacities = [most_workers(node, wish, size) if wish.workers else 0 for node in usable]
    plan = _with_readers(usable, wish, size, fill(usable, wish, capacities))
    return (plan.readers, plan.reader_cpus) if plan else (1, LEAST_READER_CPUS)
