"""What the page of a search says, as plain values."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpt_ray.report.content import Figure


def short_names(settings: Iterable[str]) -> dict[str, str]:
    """Return what to call each dotted setting: its last part, or so many parts that none is called like another."""
    names = list(settings)
    short = {}
    for name in names:
        parts = name.split(".")
        endings = [".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]
        alone = (ending for ending in endings if sum(f".{other}".endswith(f".{ending}") for other in names) == 1)
        short[name] = next(alone, name)
    return short


@dataclass(frozen=True)
class Spread:
    """A figure over seeds.

    Attributes:
        mean: mean of the values.
        deviation: sample standard deviation; nan for one value.
        count: number of values.
        bounds: of an interval, which curves show in place of the deviation; None for none.
    """

    mean: float
    deviation: float
    count: int
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True)
class PointFigures:
    """One point of the space.

    Attributes:
        point: setting -> value.
        figures: figure -> its spread over finished trials.
        finished, stopped, failed, of: how many of its trials, one a seed.
    """

    point: Mapping[str, Any]
    figures: Mapping[str, Spread]
    finished: int
    stopped: int
    failed: int
    of: int


@dataclass(frozen=True)
class Sharing:
    """How often a kind of artifact was used and made.

    Attributes:
        title: the step.
        used: trials that needed it.
        made: different artifacts.
        seconds: what making those took.
        saved: what making one for each trial would have taken besides.
    """

    title: str
    used: int
    made: int
    seconds: float
    saved: float


@dataclass(frozen=True)
class Ending:
    """A trial that did not finish: what it tried, how it ended and why."""

    title: str
    state: str
    cause: str


@dataclass(frozen=True)
class SearchReport:
    """All of a search's page.

    Attributes:
        title: names the search.
        created: ISO 8601 time, UTC.
        headline: the few numbers that matter most.
        notes: what the reader has to know.
        images: what accuracies are of.
        metric: what was optimised.
        points: best first.
        sharing: what trials had in common.
        endings: trials that did not finish.
        best_yaml: the best settings; empty if nothing finished.
        tune_yaml: the tune file's settings.
    """

    title: str
    created: str
    headline: Sequence[Figure]
    notes: Sequence[str]
    images: str
    metric: str
    points: Sequence[PointFigures]
    sharing: Sequence[Sharing] = ()
    endings: Sequence[Ending] = ()
    best_yaml: str = ""
    tune_yaml: str = field(default="")
