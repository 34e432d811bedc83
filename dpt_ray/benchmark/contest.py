"""A fair race: every contestant warms up, then all take turns for equally long, and medians are compared."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

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
        rounds: timed rounds after one for warming up.
        seconds: how long a turn takes at least; it decides how many passes each contestant makes, so that
            starting up weighs as much, or as little, for all of them.
        say: is told each figure as it comes.
    """
    results = {name: Result() for name in contestants}
    names, passes = list(contestants), dict.fromkeys(contestants, 1)
    for round_number in range(rounds + 1):
        first = round_number % len(names)
        for name in names[first:] + names[:first]:
            if round_number:
                contestants[name](1)
            began = time.perf_counter()
            images = contestants[name](passes[name])
            taken = time.perf_counter() - began
            if round_number:
                results[name].rates.append(images / taken)
            else:
                passes[name] = max(1, math.ceil(seconds / taken))
            title = f"round {round_number}" if round_number else "warm-up"
            say(f"{title}: {name}: {images:,} images in {taken:.1f} s, {images / taken:,.0f} images/s")
    return results
