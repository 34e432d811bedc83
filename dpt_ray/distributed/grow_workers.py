"""Lets a training grow when nodes join the cluster; `PlaceWorkers` lets it shrink after the loss of some.

Ray Train's own resizing stops the workers without a checkpoint. It counts workers by the resources that are free, so it
would also start them again, every minute, for a number that leaves readers no CPU.
"""

import time
from collections.abc import Callable
from typing import Any

from dpt_ray.distributed.cluster_nodes import answering_nodes
from dpt_ray.distributed.node_capacity import Wish
from dpt_ray.distributed.placement import Plan, plan_placement
from dpt_ray.distributed.ray_internals import ControllerCallback, RunningState


class GrowWorkers(ControllerCallback):
    """Stops the workers, with a checkpoint, when the nodes host more; it runs in Ray Train's controller.

    Args:
        wish: what the training needs, with a range of workers.
        seconds: time between two looks at the nodes.
        stop: lets the workers store a checkpoint and stop.
    """

    def __init__(self, wish: Wish, seconds: float, stop: Callable[[], object]):
        self._wish, self._seconds, self._stop = wish, seconds, stop
        self._workers, self._looked = wish.workers, 0.0

    def before_controller_execute_resize_decision(self, resize_decision: Any) -> None:
        """Note the number of workers, which an earlier callback has set."""
        self._workers = resize_decision.num_workers

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Look at the nodes from time to time while the workers run."""
        now = time.monotonic()
        if not isinstance(previous_state, RunningState):
            self._looked = now
        elif isinstance(current_state, RunningState) and now - self._looked >= self._seconds:
            self._looked = now
            plan = plan_placement(answering_nodes(), self._wish)
            if isinstance(plan, Plan) and plan.wish.workers > self._workers:
                self._stop()
