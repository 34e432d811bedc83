"""What the page of a comparison says, as plain values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dpt_ray.report.content import Figure
from dpt_ray.report.search_content import PointFigures

FIGURES = {
    "frechet_distance": "Fréchet distance",
    "stage1_accuracy": "Stage 1",
    "stage3_accuracy": "Stage 3",
    "gain": "Gain (points)",
    "classification_accuracy_score": "Pseudo images alone",
}
"""Figures in the order of the paper's tables, with their headings."""


@dataclass(frozen=True)
class Estimate:
    """A figure over seeds.

    Attributes:
        mean: mean over seeds.
        low: lower bound of Student's interval at 95 %, cut at the least possible value; nan for one value.
        high: upper bound.
        count: number of values.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def has_interval(self) -> bool:
        """Whether there are bounds."""
        return math.isfinite(self.low)


@dataclass(frozen=True)
class ComparedRow:
    """Runs that differ in their seeds alone.

    Attributes:
        name: a letter.
        labels: labelled images of each class.
        settings: those in which rows differ, with their values.
        runs: titles of the runs.
        seeds: number of different seeds.
        figures: id of a figure -> its estimate; a figure that no run has is absent.
    """

    name: str
    labels: str
    settings: Mapping[str, str]
    runs: Sequence[str]
    seeds: int
    figures: Mapping[str, Estimate]


@dataclass(frozen=True)
class CompareReport:
    """All of the page.

    Attributes:
        title: names it.
        created: ISO 8601 time, UTC.
        rows: configurations, by labels a class.
        points: the same configurations for curves.
        notes: what the reader has to know.
        headline: none.
    """

    title: str
    created: str
    rows: Sequence[ComparedRow]
    points: Sequence[PointFigures]
    notes: Sequence[str] = ()
    headline: Sequence[Figure] = ()
