"""The results of a search: figures over seeds, shared artifacts, and the best point."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from dpt_ray.config.search_settings import METRICS
from dpt_ray.experiments.search.records import Record, measured
from dpt_ray.experiments.search.space import Point, Trial
from dpt_ray.experiments.statistics import mean_and_deviation
from dpt_ray.pipeline.artifacts.store import ArtifactStore
from dpt_ray.report.search_content import PointFigures, Sharing, Spread

FIGURES = (*METRICS, "pseudo_label_accuracy")


def points_of(trials: Sequence[tuple[Trial, Record]]) -> list[PointFigures]:
    """Return the figures of every point over its finished trials, in the order of the search."""
    grouped: dict[str, list[Record]] = defaultdict(list)
    points: dict[str, Point] = {}
    for trial, record in trials:
        points.setdefault(repr(trial.point), trial.point)
        grouped[repr(trial.point)].append(record)
    figures = []
    for name, point in points.items():
        finished = [record.metrics for record in grouped[name] if record.state == "finished"]
        values = {
            figure: [value for metrics in finished if (value := measured(metrics.get(figure))) is not None]
            for figure in FIGURES
        }
        figures.append(
            PointFigures(
                point,
                {figure: Spread(*mean_and_deviation(found), len(found)) for figure, found in values.items() if found},
                finished=len(finished),
                stopped=sum(record.state == "stopped" for record in grouped[name]),
                failed=sum(record.state == "failed" for record in grouped[name]),
                of=len(grouped[name]),
            )
        )
    return figures


def best_first(points: Sequence[PointFigures], metric: str) -> list[PointFigures]:
    """Sort points by the number of seeds with the metric, descending, and then by its mean, the best first.

    Means over different numbers of seeds are not comparable, since seeds differ in difficulty.
    """
    sign = -1 if METRICS[metric] == "max" else 1

    def rank(point: PointFigures) -> tuple[float, float, float]:
        spread = point.figures.get(metric)
        return (0, 0, -point.finished) if spread is None else (-spread.count, sign * spread.mean, 0)

    return sorted(points, key=rank)


def winner(points: Sequence[PointFigures], metric: str) -> PointFigures | None:
    """Return the best point; None if the metric was measured at none."""
    best = best_first(points, metric)[:1]
    return best[0] if best and metric in best[0].figures else None


@dataclass(frozen=True)
class Costs:
    """The time that the artifacts of finished trials took.

    Attributes:
        sharing: one entry for each kind of step, in the order of the method.
        alone: seconds of all steps of all trials, as if no trial shared any.
        together: seconds of all artifacts, each counted once.
    """

    sharing: list[Sharing]
    alone: float
    together: float


def costs_of(trials: Sequence[tuple[Trial, Record]], store: ArtifactStore) -> Costs:
    """Return the time that sharing artifacts saved, by the times in their manifests."""
    seconds: dict[tuple[str, str], float] = {}
    uses: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for trial, record in trials:
        if record.state != "finished":
            continue
        for step in trial.steps:
            address = (step.name, step.fingerprint)
            if address not in seconds:
                artifact = store.find(*address)
                seconds[address] = artifact.seconds if artifact else 0.0
            uses[step.title].append(address)
    sharing = [
        Sharing(
            title,
            used=len(addresses),
            made=len(set(addresses)),
            seconds=sum(seconds[address] for address in set(addresses)),
            saved=sum((used - 1) * seconds[address] for address, used in Counter(addresses).items()),
        )
        for title, addresses in uses.items()
    ]
    return Costs(sharing, sum(s.seconds + s.saved for s in sharing), sum(seconds.values()))


def standard_error(accuracy: float, images: int) -> float:
    """Return the standard error of an accuracy that is measured on so many images; nan for none."""
    if images == 0:
        return math.nan
    return math.sqrt(max(0.0, accuracy * (1 - accuracy)) / images)
