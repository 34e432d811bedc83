"""Waits until a cluster has the nodes that a job needs: an autoscaler takes minutes to add or replace them."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from dpt_ray.distributed.events import WAITING, Event, tell
from dpt_ray.distributed.placement import Refusal

POLL_SECONDS, LINE_SECONDS = 2.0, 30.0
"""Time between two looks at the cluster, and between two lines about it."""

Found = TypeVar("Found")
"""What was sought: a plan, for instance."""


def wait_for_nodes(
    find: Callable[[], Found | Refusal], process: Mapping[str, float], processes: int, seconds: float
) -> Found | Refusal:
    """Return what `find` finds, or its last refusal once the time is over.

    Meanwhile the resources of the processes are requested from the autoscaler, if there is one.

    Args:
        find: looks at the cluster.
        process: Ray's name of a resource -> the amount that each process reserves.
        processes: number of processes.
        seconds: longest time to wait; 0 requests nothing.
    """
    found = find()
    if seconds <= 0 or not isinstance(found, Refusal):
        return found
    with requested_nodes(process, processes):
        return wait_until_found(find, seconds)


@contextmanager
def requested_nodes(process: Mapping[str, float], processes: int) -> Iterator[None]:
    """Request the resources of processes from the autoscaler, if there is one, within the context.

    An autoscaler adds nodes for tasks that wait. No task waits before a step starts, nor for workers that a training
    can do without.
    """
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[{name: amount for name, amount in process.items() if amount}] * processes)
    try:
        yield
    finally:
        request_resources(bundles=[])


def wait_until_found(
    find: Callable[[], Found | Refusal], seconds: float, say: Callable[[Event], object] = tell
) -> Found | Refusal:
    """Poll `find` until it does not refuse or the time is over, and return its last answer.

    Args:
        find: looks at the cluster.
        seconds: longest time to wait.
        say: receives an event, at the start and every `LINE_SECONDS`: what is missing and what the nodes host.
    """
    began = time.monotonic()
    said = -LINE_SECONDS
    found = find()
    while isinstance(found, Refusal):
        waited = time.monotonic() - began
        if waited - said >= LINE_SECONDS:
            said = waited
            say(waiting(found, waited, seconds))
        if waited >= seconds:
            break
        time.sleep(min(POLL_SECONDS, seconds - waited))
        found = find()
    return found


def waiting(refusal: Refusal, waited: float, seconds: float) -> Event:
    """Return the event that says what is missing and what the nodes host."""
    hosting = "" if refusal.hosting in refusal.what else f" ({refusal.hosting})"
    text = f"waiting for nodes, {waited:.0f} of at most {seconds:.0f} s: {refusal.what}{hosting}"
    return Event(WAITING, text, {"waited_seconds": round(waited, 1)})
