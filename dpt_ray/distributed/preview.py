"""Pictures of a network during its training, for people who watch. Nothing depends on them."""

from collections.abc import Callable
from dataclasses import dataclass

from dpt_ray.distributed.evaluation_callback import last_passed
from dpt_ray.distributed.measurements import is_observed

SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)
"""Shares of a training after which a picture is drawn."""


@dataclass(frozen=True)
class Preview:
    """Draws what a network makes during its training.

    The first worker draws from the averaged weights when it adds a row to the history; the others wait for it at their
    next step. It draws its random numbers from its own seed, so the training does not change.

    Attributes:
        draw: maps the file of the present network to a PNG file. It runs in the worker, so it must pickle.
        shares: shares of the training after which it draws, in (0, 1], ascending.
    """

    draw: Callable[[bytes], bytes]
    shares: tuple[float, ...] = SHARES

    def due(self, before: int, now: int, total: int) -> bool:
        """Return whether a share was passed between two numbers of images of `total`."""
        return last_passed(self.shares, before, now, total) is not None


def preview_if_observed(draw: Callable[[bytes], bytes]) -> Preview | None:
    """Return a preview if something in this process shows pictures, otherwise None."""
    return Preview(draw) if is_observed() else None
