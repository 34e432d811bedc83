"""Points of a search that are the same run, which runs once and whose result they share."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dpt_ray.experiments.search.space import Trial


def distinct(trials: Iterable[Trial]) -> list[Trial]:
    """Return the different runs among trials, in the order of their first occurrence.

    Two trials are the same run if their evaluations have the same address: with a value that is drawn twice, with 1 and
    1.0, or with different values of a setting that they do not read.
    """
    kept: dict[str, Trial] = {}
    for trial in trials:
        kept.setdefault(trial.key, trial)
    return list(kept.values())


@dataclass(frozen=True)
class Draws:
    """The points of a search: listed, drawn or proposed.

    Attributes:
        points: the keys of the trials of each point.
        impossible: number of further points that could not run.
    """

    points: Sequence[Sequence[str]]
    impossible: int = 0

    @property
    def drawn(self) -> int:
        """All points."""
        return len(self.points) + self.impossible

    @property
    def distinct(self) -> int:
        """Number of different points that can run."""
        return len({tuple(keys) for keys in self.points})

    @property
    def are_repeated(self) -> bool:
        """Whether several points are the same run."""
        return self.distinct < len(self.points)

    def times(self) -> Counter[str]:
        """Return the key of each trial -> number of points that share it."""
        return Counter(key for keys in self.points for key in set(keys))

    def describe(self) -> str:
        """State the numbers of points and of different points."""
        return f"{self.drawn} draws, {self.distinct} distinct: equal ones are run once and share the result"
