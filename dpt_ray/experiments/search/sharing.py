"""Points of a search that are the same run: it is made once, and they share its result."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dpt_ray.experiments.search.space import Trial


def distinct(trials: Iterable[Trial]) -> list[Trial]:
    """Return the different runs among trials, each as it stands first.

    Two trials are the same run if all that their results follow from is equal: a value that is drawn again, 1 and 1.0,
    or a setting that is not read where another one has its value.
    """
    kept: dict[str, Trial] = {}
    for trial in trials:
        kept.setdefault(trial.key, trial)
    return list(kept.values())


@dataclass(frozen=True)
class Draws:
    """The points that a search drew, listed or was proposed.

    Attributes:
        points: the keys of each one's trials.
        impossible: how many more could not be run at all.
    """

    points: Sequence[Sequence[str]]
    impossible: int = 0

    @property
    def drawn(self) -> int:
        """All points."""
        return len(self.points) + self.impossible

    @property
    def distinct(self) -> int:
        """The different ones among those that can be run."""
        return len({tuple(keys) for keys in self.points})

    @property
    def are_repeated(self) -> bool:
        """Whether some are the same run."""
        return self.distinct < len(self.points)

    def times(self) -> Counter[str]:
        """Return how many points share each trial, by its key."""
        return Counter(key for keys in self.points for key in set(keys))

    def describe(self) -> str:
        """Say how many there are, and how many different ones."""
        return f"{self.drawn} draws, {self.distinct} distinct: equal ones are run once and share the result"
