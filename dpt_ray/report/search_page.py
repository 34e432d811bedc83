"""The page of a search as one HTML file; its sections and their words stand in `templates/search.html.j2`."""

import math
from collections.abc import Sequence
from typing import Any

from dpt_ray.report.page_templates import Column, Table, render_page
from dpt_ray.report.search_content import PointFigures, SearchReport, Spread
from dpt_ray.report.search_figures import setting_panels, spoken_names
from dpt_ray.tables import MISSING, format_number, format_seconds, format_share

COLUMNS = (
    ("stage1_accuracy", "Stage 1"),
    ("stage3_accuracy", "Stage 3"),
    ("gain", "Gain (points)"),
    ("frechet_distance", "Fréchet distance"),
    ("pseudo_image_agreement", "Agreement"),
    ("pseudo_label_accuracy", "Pseudo-labels"),
)

METRICS = {
    "stage1_accuracy": "stage 1 accuracy",
    "stage3_accuracy": "stage 3 accuracy",
    "gain": "gain",
    "frechet_distance": "Fréchet distance",
    "pseudo_image_agreement": "pseudo-image agreement",
}
"""What to call the figures that a search can compare, within a sentence."""


def render_search(report: SearchReport) -> str:
    """Return the whole page; equal reports give equal text."""
    finished = [point for point in report.points if point.finished]
    return render_page(
        "search.html.j2",
        report=report,
        metric=METRICS[report.metric],
        curves=[panel for setting in varied(finished) for panel in setting_panels(finished, setting)],
        points=_points_table(report),
        sharing=_sharing_table(report),
        endings=_endings_table(report),
    )


def varied(points: Sequence[PointFigures]) -> list[str]:
    """Return the settings of which there are several values."""
    names = list(points[0].point) if points else []
    return [name for name in names if len({repr(point.point[name]) for point in points}) > 1]


def format_spread(figure: str, spread: Spread | None) -> str:
    """Return mean ± standard deviation, accuracies in per cent and gains in points."""
    if spread is None:
        return MISSING
    if figure == "frechet_distance":
        shown, deviation = format_number(spread.mean), f"{spread.deviation:.2g}"
    elif figure == "gain":
        shown, deviation = format_share(spread.mean, signed=True), f"{100 * spread.deviation:.1f}"
    else:
        shown, deviation = format_share(spread.mean), f"{100 * spread.deviation:.1f}"
    return shown if math.isnan(spread.deviation) else f"{shown} ± {deviation}"


def _points_table(report: SearchReport) -> Table:
    names = spoken_names(report.points[0].point).values() if report.points else ()
    shown = [(f, title) for f, title in COLUMNS if any(f in point.figures for point in report.points)]
    columns = [Column(name, "name" if number == 0 else "number") for number, name in enumerate(names)]
    columns += [Column(title, "number") for _, title in shown] + [Column("Finished seeds", "number")]
    rows = [
        (
            *map(_format_setting, point.point.values()),
            *(format_spread(figure, point.figures.get(figure)) for figure, _ in shown),
            f"{point.finished} of {point.of}",
        )
        for point in report.points
    ]
    return Table("Points", columns, rows)


def _format_setting(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)


def _sharing_table(report: SearchReport) -> Table:
    columns = [Column("Step", "name")]
    columns += [Column(h, "number") for h in ("Trials", "Made", "Time of making", "Saved by sharing")]
    rows = [
        (s.title, f"{s.used:,}", f"{s.made:,}", format_seconds(s.seconds), format_seconds(s.saved))
        for s in report.sharing
    ]
    return Table("Shared", columns, rows)


def _endings_table(report: SearchReport) -> Table:
    columns = (Column("Trial", "name"), Column("End", "text"), Column("Cause", "text"))
    return Table("Not finished", columns, [(ending.title, ending.state, ending.cause) for ending in report.endings])
