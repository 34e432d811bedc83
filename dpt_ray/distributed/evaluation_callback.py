"""Evaluations during a training, for early stopping and for curves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class EvaluationCallback:
    """Evaluates a network during its training.

    The first worker evaluates the averaged weights when it adds a row to the history. An evaluation changes nothing in
    the training.

    Attributes:
        shares: shares of the training after which it is evaluated, in (0, 1), ascending.
        evaluate: maps the file of the present network to its score. It runs in the worker, so it must pickle.
        report: called with share and score, in a thread of the process that started the training.
    """

    shares: tuple[float, ...]
    evaluate: Callable[[bytes], float]
    report: Callable[[float, float], None]

    def due(self, before: int, now: int, total: int) -> float | None:
        """Return the last share that was passed between two numbers of images of `total`; None if none was."""
        return last_passed(self.shares, before, now, total)


def last_passed(shares: Sequence[float], before: int, now: int, total: int) -> float | None:
    """Return the last of ascending shares that was passed between two numbers of images of `total`; None if none."""
    passed = [share for share in shares if before < share * total <= now]
    return passed[-1] if passed else None
