"""A throttle of Ray Data's scheduling loop, which runs in the process that consumes the data."""

import time
from typing import Any

from dpt_ray.distributed.ray_internals import ExecutionCallback

ROUND_SECONDS, BURST_ROUNDS = 0.05, 4
"""Mean time between two rounds of the loop; number of rounds that may follow each other at once after a pause."""


class SchedulerThrottle(ExecutionCallback):
    """Limits the rate of an execution's scheduling loop.

    While blocks are ready that the consumer does not take yet, which is the intended state, the loop never waits. Its
    thread would then use a whole core, and hold the interpreter's lock that the training worker needs.
    """

    def __init__(self) -> None:
        self._paid_until = 0.0

    def on_execution_step(self, executor: Any) -> None:
        """Sleep if the recent rounds exceeded the rate."""
        now = time.monotonic()
        # A leaky bucket: each round costs ROUND_SECONDS, and a pause saves up at most BURST_ROUNDS of them.
        self._paid_until = max(self._paid_until, now - BURST_ROUNDS * ROUND_SECONDS) + ROUND_SECONDS
        time.sleep(max(0.0, self._paid_until - now))
