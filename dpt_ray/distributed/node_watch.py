"""Tells of every node that leaves or joins the cluster, or is about to be reclaimed, and of outages of the store."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from dpt_ray.data.storage.outages import outages
from dpt_ray.distributed import job_log
from dpt_ray.distributed.address import named_address
from dpt_ray.distributed.background import RepeatedCall
from dpt_ray.distributed.events import NODE_DRAINING, NODE_JOINED, NODE_LOST, Event, Value, of_outage, tell
from dpt_ray.distributed.lost_ray import is_connected

LOOK_SECONDS = 2.0
"""Between two looks at the cluster."""


@dataclass(frozen=True)
class SeenNode:
    """A living node of the cluster.

    Attributes:
        host: its address.
        cpus: its CPUs.
        gpus: its GPUs.
        is_draining: whether it is about to be reclaimed.
        until: Unix time of that; None if it is unknown.
    """

    host: str
    cpus: float
    gpus: float
    is_draining: bool = False
    until: float | None = None

    def size(self, name: str) -> dict[str, Value]:
        """Return the fields of the node's events, given its id."""
        return {"node": name, "cpus": self.cpus, "gpus": self.gpus}

    def describe(self, name: str) -> str:
        """Return the node in words, given its id."""
        gpus = f" and {self.gpus:g} GPUs" if self.gpus else ""
        return f"node {name[:8]} ({self.host}, {self.cpus:g} CPUs{gpus})"


def changes(before: Mapping[str, SeenNode], after: Mapping[str, SeenNode], now: float) -> Iterator[Event]:
    """Yield the events between two looks at the cluster.

    Args:
        before: id -> node at the earlier look.
        after: the same at the later one.
        now: Unix time of the later one.
    """
    for name, node in before.items():
        if name not in after:
            known: dict[str, Value] = {
                "node": name,
                "cpus": node.cpus,
                "gpus": node.gpus,
                "announced": node.is_draining,
            }
            announced = ", as announced" if node.is_draining else ""
            yield Event(NODE_LOST, f"lost {node.describe(name)}{announced}", known)
    for name, node in after.items():
        earlier = before.get(name)
        if earlier is None:
            yield Event(NODE_JOINED, f"{node.describe(name)} has joined the cluster", node.size(name))
        if node.is_draining and not (earlier is not None and earlier.is_draining):
            left = None if node.until is None else round(max(0.0, node.until - now), 1)
            when = "" if left is None else f" in {left:.0f} s"
            text = f"{node.describe(name)} is about to be reclaimed{when}"
            yield Event(NODE_DRAINING, text, {**node.size(name), "seconds_left": left})


def look_at_nodes() -> dict[str, SeenNode] | None:
    """Return the living nodes of the cluster, id -> node; None if this process is not connected to it."""
    if not is_connected():
        return None
    import ray

    from dpt_ray.distributed.ray_internals import draining_nodes

    draining = draining_nodes()
    return {
        node["NodeID"]: SeenNode(
            node["NodeManagerAddress"],
            node["Resources"].get("CPU", 0.0),
            node["Resources"].get("GPU", 0.0),
            node["NodeID"] in draining,
            draining.get(node["NodeID"]),
        )
        for node in ray.nodes()
        if node["Alive"]
    }


class NodeWatch:
    """Tells of changes of the cluster, at each look.

    Args:
        look_at: returns the living nodes; None while this process is not connected.
        say: receives the events.
    """

    def __init__(self, look_at: Callable[[], Mapping[str, SeenNode] | None], say: Callable[[Event], object]):
        self._look_at, self._say = look_at, say
        self._seen: Mapping[str, SeenNode] | None = None

    def look(self) -> None:
        """Look at the cluster, and tell what has changed since the last look."""
        seen = self._look_at()
        if self._seen is not None and seen is not None:
            for event in changes(self._seen, seen, time.time()):
                self._say(event)
        self._seen = seen


@contextmanager
def watched_surroundings() -> Iterator[None]:
    """Log the events of nodes and of the store, as those of the run that is going on here, within the context."""
    about = {name: str(value) for name, value in job_log.present().items() if name == "run"}

    def say(event: Event) -> None:
        tell(event, about)

    with ExitStack() as stack:
        stack.enter_context(outages.observed(lambda outage: say(of_outage(outage))))
        if named_address():  # a local Ray is one node, which `lost_ray.py` watches
            stack.enter_context(RepeatedCall(NodeWatch(look_at_nodes, say).look, LOOK_SECONDS))
        yield
