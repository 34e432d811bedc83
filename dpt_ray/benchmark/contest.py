"""A fair race: every contestant warms up, then all take turns, and medians of the rounds are compared."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Contestant = Callable[[], int]
"""Does its work once and returns how many images it delivered."""


@dataclass
class Result:
    """The rounds of one contestant, in images/s."""

    rates: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median of the rounds."""
        return statistics.median(self.rates)

    @property
    def spread(self) -> tuple[float, float]:
        """Slowest and fastest round."""
        return min(self.rates), max(self.rates)


def run_contest(
    contestants: Mapping[str, Contestant], rounds: int, say: Callable[[str], None] = lambda text: None
) -> dict[str, Result]:
    """Time all contestants in turns; each round begins with another one, so that none always follows the same.

    Args:
        contestants: name -> what to time.
        rounds: timed rounds after the one for warming up.
        say: is told each figure as it comes.
    """
    results = {name: Result() for name in contestants}
    names = list(contestants)
    for round_number in range(rounds + 1):
        first = round_number % len(names)
        for name in names[first:] + names[:first]:
            began = time.perf_counter()
            images = contestants[name]()
            rate = images / (time.perf_counter() - began)
            if round_number:
                results[name].rates.append(rate)
            say(f"{'warm-up' if round_number == 0 else f'round {round_number}'}: {name}: {rate:,.0f} images/s")
    return results
