"""Keeps Ray Data's scheduling loop from spinning in the process that consumes what it reads."""

import time
from typing import Any

from ray.data._internal.execution.execution_callback import ExecutionCallback

ROUND_SECONDS, AT_ONCE = 0.05, 4
"""Rounds of the loop follow each other in so much time on average; so many may come at once after a pause."""


class Paced(ExecutionCallback):
    """Lets a Ray Data execution's loop go round no more often than it must to see everything soon.

    It goes round again at once while there is anything ready that it may not take yet: blocks, whenever the consumer
    has enough of them, which is how it should be. Its thread then takes a whole core, and the lock of the interpreter
    in which a worker trains.
    """

    def __init__(self) -> None:
        self._paid_until = 0.0

    def on_execution_step(self, executor: Any) -> None:
        """Sleep if there were too many rounds lately."""
        now = time.monotonic()
        self._paid_until = max(self._paid_until, now - AT_ONCE * ROUND_SECONDS) + ROUND_SECONDS
        time.sleep(max(0.0, self._paid_until - now))
