"""Rows of a comparison: configurations, each with the mean of its runs over seeds and an interval for it."""

import math
from collections.abc import Mapping, Sequence

from dpt_ray.experiments.comparison.compared_runs import LABELS, ComparedRun, differing
from dpt_ray.experiments.statistics import mean_and_deviation, mean_interval
from dpt_ray.json_values import Json
from dpt_ray.report.compare_content import FIGURES, ComparedRow, Estimate
from dpt_ray.report.search_content import PointFigures, Spread
from dpt_ray.tables import MISSING

_POSSIBLE = {
    "frechet_distance": (0.0, math.inf),
    "stage1_accuracy": (0.0, 1.0),
    "stage3_accuracy": (0.0, 1.0),
    "gain": (-1.0, 1.0),
    "classification_accuracy_score": (0.0, 1.0),
}
"""Least and largest value of each figure, at which its interval ends."""


def compare_rows(runs: Sequence[ComparedRun]) -> list[ComparedRow]:
    """Return a row for each configuration, by labels a class and then as they came.

    The gain of a row is paired: it is the mean over seeds of each run's own difference between its two classifiers.
    """
    shown = differing(runs)
    return [
        ComparedRow(
            name=_letter(number),
            labels=_shown(group[0].settings.get(LABELS)),
            settings={name: _shown(group[0].settings.get(name)) for name in shown},
            runs=tuple(run.title for run in group),
            seeds=len({repr(run.seeds) for run in group}),
            figures=_estimates(group),
        )
        for number, group in enumerate(_configurations(runs))
    ]


def compare_points(runs: Sequence[ComparedRun]) -> list[PointFigures]:
    """Return the same configurations as points of a curve, with intervals as error bars."""
    shown = differing(runs)
    points = []
    for group in _configurations(runs):
        spreads = {
            name: Spread(e.mean, math.nan, e.count, (e.low, e.high) if e.has_interval else None)
            for name, e in _estimates(group).items()
        }
        point = {name: group[0].settings.get(name) for name in shown}
        points.append(PointFigures(point, spreads, len(group), 0, 0, len(group)))
    return points


def _configurations(runs: Sequence[ComparedRun]) -> list[list[ComparedRun]]:
    """Group runs that differ in seeds alone."""
    shown = differing(runs)
    groups: dict[str, list[ComparedRun]] = {}
    for run in runs:
        groups.setdefault(repr([run.settings.get(name) for name in shown]), []).append(run)
    return sorted(groups.values(), key=lambda group: _labels(group[0].settings))


def _estimates(group: Sequence[ComparedRun]) -> dict[str, Estimate]:
    return {figure: estimate for figure in FIGURES if (estimate := _estimate(group, figure)) is not None}


def _estimate(group: Sequence[ComparedRun], figure: str) -> Estimate | None:
    values = [run.figures[figure] for run in group if figure in run.figures]
    if not values:
        return None
    mean, _ = mean_and_deviation(values)
    if len(values) < 2:
        return Estimate(mean, math.nan, math.nan, 1)
    low, high = mean_interval(values)
    least, most = _POSSIBLE[figure]
    return Estimate(mean, max(least, low), min(most, high), len(values))


def _labels(settings: Mapping[str, Json]) -> float:
    value = settings.get(LABELS)
    return float(value) if isinstance(value, int | float) else math.inf


def _shown(value: Json) -> str:
    return MISSING if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _letter(number: int) -> str:
    """Return A to Z, then AA, AB and so on."""
    text = chr(ord("A") + number % 26)
    return text if number < 26 else _letter(number // 26 - 1) + text
