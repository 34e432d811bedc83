"""Comparison of implementations in one process: all warm up, then take turns of equal length; medians are compared."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

LEAST_SHARE = 0.5
"""A warm-up turn from which the number of passes is extrapolated has at least this fraction of a turn's length."""

Contestant = Callable[[int], int]
"""Makes the given number of passes over its images, and returns the number of images that it delivered."""


@dataclass
class Result:
    """The rates of one contestant in all rounds, in images/s."""

    rates: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median rate, in images/s."""
        return statistics.median(self.rates)


def run_contest(
    contestants: Mapping[str, Contestant],
    rounds: int,
    seconds: float,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Result]:
    """Time all contestants in turns.

    Before each turn the contestant makes one untimed pass, which starts its processes. Each round begins with the next
    contestant, so that none always follows the same one.

    Args:
        contestants: name -> contestant.
        rounds: timed rounds, after the warm-up.
        seconds: approximate length of a turn. Each contestant makes as many passes as fill it, so that start-up costs
            have the same weight for all.
        say: called with each result, as a line of text, when it is known.

    Returns:
        Name -> rates of the contestant.
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
        # A short turn consists mostly of start-up, so its rate cannot be extrapolated to a long one.
        while taken < LEAST_SHARE * seconds:
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
    """Limit the threads of torch and of the BLAS libraries of NumPy and scikit-learn; None changes nothing."""
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
    """Return the number of passes that fill `seconds`, if `passes` passes took `taken` seconds."""
    return max(passes, math.ceil(passes * seconds / taken))
