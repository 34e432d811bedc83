"""A fair race: every contestant warms up, then all take turns for equally long, and medians are compared."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

LEAST_SHARE = 0.5
"""A turn's passes are reckoned from a warm-up turn of at least this share of its length."""

Contestant = Callable[[int], int]
"""Passes over the images so many times, as one piece of work, and returns how many it delivered."""


@dataclass
class Result:
    """The rounds of one contestant, in images/s."""

    rates: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median of the rounds."""
        return statistics.median(self.rates)


def run_contest(
    contestants: Mapping[str, Contestant],
    rounds: int,
    seconds: float,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Result]:
    """Time all contestants in turns, each right after one pass that is not timed and starts its processes.

    Each round begins with another contestant, so that none always follows the same.

    Args:
        contestants: name -> what to time.
        rounds: timed rounds, after warming up.
        seconds: about how long a turn takes; it decides how many passes each contestant makes, so that
            starting up weighs as much, or as little, for all of them.
        say: is told each figure as it comes.
    """
    results = {name: Result() for name in contestants}
    names, passes = list(contestants), dict.fromkeys(contestants, 1)

    def time_turn(name: str, title: str) -> tuple[float, float]:
        began = time.perf_counter()
        images = contestants[name](passes[name])
        taken = time.perf_counter() - began
        say(f"{title}: {name}: {images:,} images in {taken:.1f} s, {images / taken:,.0f} images/s")
        return taken, images / taken

    for name in names:
        contestants[name](1)
        taken, _ = time_turn(name, "warm-up")
        while taken < LEAST_SHARE * seconds:  # a short turn is mostly starting, and says too little of a long one
            passes[name] = _passes_for(LEAST_SHARE * seconds, passes[name], taken)
            taken, _ = time_turn(name, "warm-up")
        passes[name] = _passes_for(seconds, passes[name], taken)
    for round_number in range(rounds):
        first = (1 + round_number) % len(names)
        for name in names[first:] + names[:first]:
            contestants[name](1)
            _, rate = time_turn(name, f"round {1 + round_number}")
            results[name].rates.append(rate)
    return results


@contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Let torch, and what numpy and scikit-learn multiply with, use so many threads; None changes nothing."""
    if threads is None:
        yield
        return
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before)


def _passes_for(seconds: float, passes: int, taken: float) -> int:
    """Return how many passes fill so many seconds, since `passes` took `taken`."""
    return max(passes, math.ceil(passes * seconds / taken))
