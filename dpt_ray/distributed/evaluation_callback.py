"""Looks at a training on its way, by which it may be stopped."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Looks:
    """When a training is looked at, and how.

    A look is taken of the averaged weights, by the first worker, with a row of the history; it changes nothing in
    the training.

    Attributes:
        shares: of the training, after which it is looked at, ascending.
        judge: from the file of the network as it is then to its score; it travels to the worker.
        tell: is given share and score, in the process that waits for the training, from a thread.
    """

    shares: tuple[float, ...]
    judge: Callable[[bytes], float]
    tell: Callable[[float, float], None]

    def due(self, before: int, now: int, total: int) -> float | None:
        """Return the last share that was passed between two numbers of images; None if there is none."""
        passed = [share for share in self.shares if before < share * total <= now]
        return passed[-1] if passed else None
