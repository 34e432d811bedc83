"""How many workers the nodes of a cluster host, and which sizes of workers leave readers the CPUs that they need.

Amounts are whole numbers of units here, since sums of binary fractions are not exact.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

READER_CPUS, LEAST_READER_CPUS = 1.0, 0.25
"""CPUs that a read task reserves, and the least that it reserves where training leaves fewer. It decodes all the time,
so more readers than CPUs slow each other down."""

MOST_READERS = 32
"""Most readers of a stream. More decode faster than a worker consumes even small images."""

SPARE_CPUS = 1.0
"""CPUs that the training workers on a node leave by default to readers, the driver and Ray itself. The threads of a
computation wait for the slowest of them, so sharing one core slows down all of them."""

GPU_WORKER_CPUS = 4.0
"""Most CPUs that a worker with a GPU gets by default."""

_LITTLE_CPUS = 0.1
"""CPUs of all workers of a run on a machine that is too small for `SPARE_CPUS`."""

UNIT = 10_000
"""Parts of a CPU that Ray distinguishes."""
HUNDREDTH = UNIT // 100


@dataclass(frozen=True)
class Node:
    """A node of a cluster.

    Attributes:
        name: distinguishes it from other nodes.
        cpus: its CPUs.
        gpus: its GPUs.
        alive: whether it belongs to the cluster now.
    """

    name: str
    cpus: float
    gpus: float = 0.0
    alive: bool = True

    @property
    def usable(self) -> bool:
        """Whether processes can run on it. A head with 0 CPUs hosts none."""
        return self.alive and self.cpus > 0


@dataclass(frozen=True)
class Wish:
    """What a run needs of a cluster.

    Attributes:
        workers: number of training workers.
        cpus_per_worker: CPUs of each worker; None for as many as the nodes have.
        gpus_per_worker: GPUs of each worker.
        streams: streams of the run that read at the same time.
        runs: number of equal runs that share the cluster.
        fewer: smaller numbers of workers that will do where the nodes do not host all, the largest first.
    """

    workers: int
    cpus_per_worker: float | None = None
    gpus_per_worker: float = 0.0
    streams: int = 1
    runs: int = 1
    fewer: tuple[int, ...] = ()

    def shared(self, runs: int) -> "Wish":
        """Return the wish of a number of equal runs that share the cluster."""
        return replace(self, runs=runs)

    def choices(self) -> "list[Wish]":
        """Return the wishes for each number of workers that will do, the largest first."""
        return [replace(self, workers=workers, fewer=()) for workers in (self.workers, *self.fewer)]


def placements(usable: Sequence[Node], wish: Wish) -> Iterator[tuple[int, Sequence[Node], dict[str, int]]]:
    """Yield ways to place a wish, the best first.

    Workers whose CPUs the wish leaves open get whole CPUs, or hundredths of one, and leave `SPARE_CPUS` on each node
    that hosts them. If no node is large enough, they leave them on another node, and at last only
    `LEAST_READER_CPUS`. Workers without GPUs run on nodes with GPUs only if the others do not host them.

    Args:
        usable: the usable nodes.
        wish: what a run needs.

    Yields:
        The CPUs of a worker in units, the nodes that may host workers, and the number of workers on each node by name.
    """
    without_gpus = [node for node in usable if not node.gpus]
    groups = [usable] if wish.gpus_per_worker or not without_gpus else [without_gpus, usable]
    if wish.cpus_per_worker is not None:
        sizes: Sequence[int] = [max(1, units(wish.cpus_per_worker))]
        rules = [(sizes, _leave_pieces(LEAST_READER_CPUS))]
    else:
        sizes = sizes_considered(usable, wish)
        rules = [
            (sizes, _leave_on_hosts(SPARE_CPUS)),
            (sizes, _leave_pieces(SPARE_CPUS)),
            (sizes[-1:], _leave_pieces(LEAST_READER_CPUS)),
        ]
    for sizes, rule in rules:
        for group in groups:
            for size in sizes:
                counts = rule(group, usable, wish, size)
                if counts is not None:
                    yield size, group, counts
                    break


def sizes_considered(usable: Sequence[Node], wish: Wish) -> list[int]:
    """Return the sizes of workers that are considered, in units, the largest first."""
    least = max(HUNDREDTH, units(_LITTLE_CPUS) // wish.workers // HUNDREDTH * HUNDREDTH)
    most = max((units(node.cpus) for node in usable), default=0)
    if wish.gpus_per_worker:
        most = min(most, units(GPU_WORKER_CPUS))
    whole = range(most // UNIT * UNIT, 0, -UNIT)
    return [*whole, *range(UNIT - HUNDREDTH, least - 1, -HUNDREDTH)]


_Counts = dict[str, int] | None
_Rule = Callable[[Sequence[Node], Sequence[Node], Wish, int], _Counts]
"""Returns how many workers of a size, in units, run on each of the given nodes; None if not all of them fit. The second
argument is all usable nodes."""


def _leave_on_hosts(spare: float) -> _Rule:
    """Return the rule that each run leaves some CPUs on each node that hosts its workers."""

    def rule(group: Sequence[Node], _: Sequence[Node], wish: Wish, size: int) -> _Counts:
        return _fill(group, wish, [most_workers(node, wish, size, each_run=units(spare)) for node in group])

    return rule


def _leave_pieces(piece: float) -> _Rule:
    """Return the rule that each run leaves some CPUs in one piece, on any usable node."""

    def rule(group: Sequence[Node], usable: Sequence[Node], wish: Wish, size: int) -> _Counts:
        capacities = [most_workers(node, wish, size) for node in group]
        hosts = {node.name for node in group}
        elsewhere = sum(units(node.cpus) // units(piece) for node in usable if node.name not in hosts)
        pieces = [0] * len(group)
        # Each piece is left where it costs the fewest workers.
        for _ in range(wish.runs - elsewhere):
            fewer = [
                most_workers(node, wish, size, least=(kept + 1) * units(piece))
                for node, kept in zip(group, pieces, strict=True)
            ]
            possible = [
                (capacities[number] - fewer[number], number)
                for number, node in enumerate(group)
                if (pieces[number] + 1) * units(piece) <= units(node.cpus)
            ]
            if not possible:
                return None
            _, chosen = min(possible)
            pieces[chosen] += 1
            capacities[chosen] = fewer[chosen]
        return _fill(group, wish, capacities)

    return rule


def _fill(group: Sequence[Node], wish: Wish, capacities: Sequence[int]) -> _Counts:
    """Return the number of workers on each node; None if not all fit."""
    return fill(group, wish, capacities) if sum(capacities) >= wish.workers * wish.runs else None


def fill(group: Sequence[Node], wish: Wish, capacities: Sequence[int]) -> dict[str, int]:
    """Return the number of workers on each node, by name, on as few nodes as possible. What does not fit is left out.

    Args:
        group: the nodes.
        wish: gives the number of workers.
        capacities: most workers of each node.
    """
    left = wish.workers * wish.runs
    counts = {}
    for node, capacity in sorted(zip(group, capacities, strict=True), key=lambda pair: -pair[1]):
        counts[node.name] = min(left, capacity)
        left -= counts[node.name]
    return counts


def most_workers(node: Node, wish: Wish, size: int, *, each_run: int = 0, least: int = 0) -> int:
    """Return how many workers of a size, in units, fit on a node.

    Args:
        node: the node.
        wish: gives the number of workers of a run, and the GPUs of each.
        size: CPUs of a worker, in units.
        each_run: CPUs that each run leaves on the node, in units.
        least: CPUs that remain free on the node, in units.
    """
    cpus = units(node.cpus) - least
    whole_runs, rest = divmod(max(0, cpus), wish.workers * size + each_run)
    workers = whole_runs * wish.workers + max(0, rest - each_run) // size
    return min(workers, gpu_slots(node, wish.gpus_per_worker)) if wish.gpus_per_worker else workers


def gpu_slots(node: Node, gpus: float) -> int:
    """Return how many processes of some GPUs each fit on a node. A share of a GPU is on one GPU."""
    if gpus < 1:
        return int(node.gpus + 1e-6) * int(1 / gpus + 1e-6)
    return int(node.gpus / gpus + 1e-6)


def units(cpus: float) -> int:
    """Return a number of CPUs in units."""
    return round(cpus * UNIT)
