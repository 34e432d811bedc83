"""Waits until a cluster has the nodes that a job needs: an autoscaler takes minutes to add or replace them."""

import logging
import time
from collections.abc import Callable, Mapping

POLL_SECONDS = 2.0

logger = logging.getLogger("dpt_ray.cluster")


def wait_for_resources(process: Mapping[str, float], processes: int, seconds: float) -> None:
    """Request the resources of a number of processes from the autoscaler, if there is one, and wait for them.

    It returns when the cluster has the resources in total or the time is over. The caller reports missing resources.

    Args:
        process: Ray's name of a resource -> the amount that each process reserves.
        processes: number of processes.
        seconds: longest time to wait; 0 requests nothing.
    """
    import ray
    from ray.autoscaler.sdk import request_resources

    wanted = {name: processes * amount for name, amount in process.items()}
    if seconds <= 0 or not missing(wanted, ray.cluster_resources()):
        return
    # An autoscaler adds nodes for tasks that wait. Before a step starts no task waits, so the request is explicit.
    request_resources(bundles=[dict(process)] * processes)
    try:
        wait_until_there(wanted, ray.cluster_resources, seconds)
    finally:
        request_resources(bundles=[])


def wait_until_there(wanted: Mapping[str, float], total: Callable[[], Mapping[str, float]], seconds: float) -> bool:
    """Poll the `total` resources of the cluster until they include those `wanted`; return whether they do."""
    deadline = time.monotonic() + seconds
    lacking = missing(wanted, total())
    if lacking:
        logger.warning("waiting up to %.0f s for nodes: the cluster lacks %s", seconds, lacking)
    while lacking:
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(POLL_SECONDS, left))
        lacking = missing(wanted, total())
    return True


def missing(wanted: Mapping[str, float], total: Mapping[str, float]) -> str:
    """Return the resources that a cluster lacks as text, such as `2 GPUs`; an empty text if it lacks none."""
    lacks = {name: amount - total.get(name, 0.0) for name, amount in wanted.items()}
    return " and ".join(f"{amount:g} {name}s" for name, amount in sorted(lacks.items()) if amount > 1e-6)
