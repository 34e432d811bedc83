"""Places the workers of a training on the nodes that are there whenever Ray Train starts them.

Ray Train would request the same bundles after the loss of a node, whether they fit the nodes that are left or not. It
would wait for them 600 s, four times, and where they fit they may leave no CPU to readers.
"""

import time
from collections.abc import Callable
from typing import Any

from dpt_ray.distributed.cluster_nodes import answering_nodes
from dpt_ray.distributed.events import FEWER_CPUS, WAITING, Event
from dpt_ray.distributed.node_capacity import Wish
from dpt_ray.distributed.placement import Plan, Refusal, plan_placement
from dpt_ray.distributed.ray_internals import (
    ControllerCallback,
    RunningState,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
)
from dpt_ray.distributed.wait_for_nodes import LINE_SECONDS, POLL_SECONDS, waiting
from dpt_ray.errors import UserError

HELD_SECONDS = 2400.0
"""Longest time that workers wait for CPUs or GPUs which exist, but which other work holds."""

MOST_FAILED_STARTS = 3
"""Most starts of a group of workers in which one of them fails before it trains."""

_NODE_LABEL = "ray.io/node-id"
"""Label that Ray gives every node."""


class PlaceWorkers(ControllerCallback):
    """Plans the placement at each start of the workers; it runs in Ray Train's controller.

    Workers keep their threads, and their number unless it is a range, so the result stays the same. They reserve fewer
    CPUs where the nodes that are left would otherwise not host them beside a reader, unless the wish gives the CPUs.

    Args:
        wish: what the training needs.
        cpus: CPUs that a worker reserves at most.
        wait_seconds: time to wait for nodes that are missing.
        say: receives events.
        started: receives the number of workers at each start.
    """

    def __init__(
        self,
        wish: Wish,
        cpus: float,
        wait_seconds: float,
        say: Callable[[Event], object],
        started: Callable[[int], object] = lambda workers: None,
    ):
        self._wish, self._cpus, self._wait_seconds = wish, cpus, wait_seconds
        self._say, self._started = say, started
        self._hosts: frozenset[str] = frozenset()
        self._failed_starts = 0
        self._lacking_since: float | None = None
        self._placed_since: float | None = None
        self._said = -LINE_SECONDS

    def before_controller_execute_resize_decision(self, resize_decision: Any) -> None:
        """Set the number of workers, and what each reserves.

        Raises:
            UserError: the nodes do not host the workers, and the time to wait for others is over.
            WorkerGroupStartupTimeoutError: Ray Train shall try again soon.
        """
        now, nodes = time.monotonic(), answering_nodes()
        plan = plan_placement(nodes, self._wish)
        if isinstance(plan, Refusal):
            self._lacking_since, self._placed_since = self._lacking_since or now, None
            self._wait(plan, now - self._lacking_since)
            raise WorkerGroupStartupTimeoutError(resize_decision.num_workers)
        if self._placed_since is not None:
            self._check_held(plan, now - self._placed_since)
        self._lacking_since, self._placed_since = None, self._placed_since or now
        cpus = min(self._cpus, plan.cpus)
        if cpus < self._cpus:
            text = f"each worker reserves {cpus:g} instead of {self._cpus:g} CPUs, as nodes are missing"
            self._say(Event(FEWER_CPUS, text, {"cpus": cpus, "planned": self._cpus}))
        resize_decision.resources_per_worker = {**resize_decision.resources_per_worker, "CPU": cpus}
        resize_decision.num_workers = plan.wish.workers
        self._started(plan.wish.workers)
        outside = {node.name for node in nodes if node.cpus > 0} - plan.hosts
        self._hosts = plan.hosts if outside else frozenset()

    def on_controller_start_worker_group(self, *, scaling_config: Any, num_workers: int) -> dict[str, str] | None:
        """Return the label selector of the nodes that may host workers; None for all nodes."""
        return {_NODE_LABEL: f"in({','.join(sorted(self._hosts))})"} if self._hosts else None

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Begin a new time to wait when the workers run.

        Raises:
            WorkerGroupStartupFailedError: workers failed at several starts.
        """
        error = getattr(getattr(current_state, "training_failed_error", None), "controller_failure", None)
        if isinstance(error, WorkerGroupStartupFailedError):
            self._failed_starts += 1
            if self._failed_starts == MOST_FAILED_STARTS:
                raise RuntimeError(f"training workers failed at {MOST_FAILED_STARTS} starts: {error}") from error
        elif isinstance(current_state, RunningState):
            self._placed_since, self._failed_starts, self._said = None, 0, -LINE_SECONDS

    def _wait(self, refusal: Refusal, waited: float) -> None:
        """Wait a moment for nodes that are missing.

        Raises:
            UserError: the time to wait is over.
        """
        if waited >= self._wait_seconds:
            raise UserError(refusal.what, where="cluster", fix=refusal.fix)
        self._tell(waiting(refusal, waited, self._wait_seconds), waited)
        time.sleep(min(POLL_SECONDS, self._wait_seconds - waited))

    def _check_held(self, plan: Plan, waited: float) -> None:
        if waited >= HELD_SECONDS:
            what = f"{plan.wish.workers} workers of {plan.cpus:g} CPUs each found no free nodes in {waited:.0f} s"
            raise UserError(what, where="cluster", fix="other work holds them: end it, or use a larger cluster")
        text = f"waiting for CPUs or GPUs that other work holds, {waited:.0f} s"
        self._tell(Event(WAITING, text, {"waited_seconds": round(waited, 1)}), waited)

    def _tell(self, event: Event, waited: float) -> None:
        if waited - self._said >= LINE_SECONDS:
            self._said = waited
            self._say(event)
