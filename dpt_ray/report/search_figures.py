"""Curves of a search: accuracies, Fréchet distance and gain over each searched setting."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from dpt_ray.report.canvas import (
    PANEL_INCHES,
    SERIES_COLORS,
    TEXT_COLOR,
    Panel,
    add_legend,
    new_canvas,
    to_svg,
    wrapped_name,
)
from dpt_ray.report.search_content import PointFigures, Spread, short_names
from dpt_ray.tables import format_number, format_share

LOGARITHMIC_FROM = 8.0
"""Values whose largest is so many times the least stand on a logarithmic axis."""
SPOKEN_POINTS = 12
"""Points whose numbers stand below a drawing; the table has all."""
_SPOKEN = {"labels.per_class": "labels a class"}
"""What to call settings whose last part says too little."""
_MARKERS = ("o", "D", "s", "^")

PANELS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "accuracy",
        (
            ("stage1_accuracy", "stage 1"),
            ("stage3_accuracy", "stage 3"),
            ("classification_accuracy_score", "pseudo images alone"),
        ),
    ),
    ("gain of stage 3, points", (("gain", "stage 3 over stage 1"),)),
    ("Fréchet distance", (("frechet_distance", "pseudo images"),)),
)
"""Heading, and the figures that it shows with what to call them."""


def spoken_names(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return what to call settings in headings, by their dotted names."""
    return {name: _SPOKEN.get(name, short.replace("_", " ")) for name, short in short_names(settings).items()}


def setting_panels(points: Sequence[PointFigures], setting: str) -> list[tuple[str, Panel]]:
    """Draw every figure over one setting, with bars of one standard deviation over seeds, or of the spreads' bounds.

    Points that differ in this setting alone are joined. Where another setting varies too, each of its values has a
    line of its own if there are few of them; else the points stand alone.

    Args:
        points: those to show.
        setting: has numbers, or other values, which then stand side by side.

    Returns:
        Heading and picture of each; those without a value are left out.
    """
    names = spoken_names(points[0].point)
    others = [name for name in points[0].point if name != setting and len({repr(p.point[name]) for p in points}) > 1]
    lines = _lines(points, {other: names[other] for other in others})
    positions, labels = _positions([point.point[setting] for point in points])
    panels = []
    for heading, possible in PANELS:
        figures = [(figure, name) for figure, name in possible if any(figure in p.figures for p in points)]
        if not figures:
            continue
        if lines and len(lines) > 1:  # one figure a line: the last, which is stage 3's accuracy where there are two
            figures = figures[-1:]
        canvas, axes = new_canvas(*PANEL_INCHES)
        drawn = lines or {"": list(points)}
        for number, (line, members) in enumerate(drawn.items()):
            for place, (figure, name) in enumerate(figures):
                style = number + place
                _draw(axes, members, setting, figure, positions, style, line or name, joined=bool(lines))
        _x_axis(axes, setting, positions, labels)
        _y_axis(axes, figures[0][0])
        if figures[0][0] == "gain":
            axes.axhline(0, color=TEXT_COLOR, linewidth=0.9)
        add_legend(axes, columns=2)
        panels.append(
            (
                f"{heading} over {names[setting]}",
                Panel(
                    to_svg(canvas, salt=f"{setting}/{heading}"),
                    _words(lines or {}, points, setting, positions, figures),
                ),
            )
        )
    return panels


def _lines(points: Sequence[PointFigures], others: Mapping[str, str]) -> dict[str, list[PointFigures]] | None:
    """Group points into lines by the other settings (with what to call those); None where they would be too many."""
    lines: dict[str, list[PointFigures]] = {}
    for point in points:
        name = ", ".join(f"{name} {_value(point.point[other])}" for other, name in others.items())
        lines.setdefault(name, []).append(point)
    return lines if len(lines) <= len(SERIES_COLORS) else None


def _draw(
    axes: Axes,
    points: Sequence[PointFigures],
    setting: str,
    figure: str,
    positions: Mapping[str, float],
    style: int,
    label: str,
    *,
    joined: bool,
) -> None:
    known = [(positions[repr(p.point[setting])], p.figures[figure]) for p in points if figure in p.figures]
    known.sort(key=lambda pair: pair[0])
    if not known:
        return
    scale = 100.0 if figure == "gain" else 1.0
    color = SERIES_COLORS[style % len(SERIES_COLORS)]
    axes.errorbar(
        [x for x, _ in known],
        [scale * spread.mean for _, spread in known],
        yerr=scale * np.array([_bar(spread) for _, spread in known]).T,
        fmt=_MARKERS[style % len(_MARKERS)] + ("-" if joined else ""),
        color=color,
        label=wrapped_name(label, 40),
        linewidth=1.6,
        elinewidth=1,
        capsize=2.5,
        markersize=4.5,
    )


def _bar(spread: Spread) -> tuple[float, float]:
    """Return the lengths of a bar below and above its point."""
    if spread.bounds is not None:
        return spread.mean - spread.bounds[0], spread.bounds[1] - spread.mean
    length = spread.deviation if math.isfinite(spread.deviation) else 0.0
    return length, length


def _positions(values: Sequence[Any]) -> tuple[dict[str, float], list[str] | None]:
    """Return where each value stands, and its label where it is no number."""
    distinct = {repr(value): value for value in values}
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in distinct.values()):
        return {name: float(value) for name, value in distinct.items()}, None
    return {name: float(place) for place, name in enumerate(distinct)}, [_value(v) for v in distinct.values()]


def _x_axis(axes: Axes, setting: str, positions: Mapping[str, float], labels: list[str] | None) -> None:
    places = sorted(set(positions.values()))
    if labels is not None:
        axes.set_xticks(range(len(labels)), [wrapped_name(label, 14) for label in labels], parse_math=False)
        axes.set_xlim(-0.5, len(labels) - 0.5)
    else:
        if places[0] > 0 and places[-1] >= LOGARITHMIC_FROM * places[0]:
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
        if len(places) <= 8:
            axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.set_xlabel(setting, parse_math=False)


def _y_axis(axes: Axes, figure: str) -> None:
    if figure.endswith("accuracy"):
        axes.yaxis.set_major_formatter(lambda share, _: f"{round(100 * share, 2):g}%")
    elif figure == "gain":
        axes.yaxis.set_major_formatter(lambda points, _: f"{points:+g}" if points else "0")


def _words(
    lines: Mapping[str, Sequence[PointFigures]],
    points: Sequence[PointFigures],
    setting: str,
    positions: Mapping[str, float],
    figures: Sequence[tuple[str, str]],
) -> str:
    """Return the numbers of a drawing: the means of each line, or of each figure of all points if there is one line.

    Only the first `SPOKEN_POINTS` points are told, in the order of the axis.
    """
    if len(lines) > 1:
        spoken = [(line, members, figures[-1][0]) for line, members in lines.items()]
    else:
        spoken = [(name, points, figure) for figure, name in figures]
    most = SPOKEN_POINTS // len(lines or (1,))
    sentences = []
    for name, members, figure in spoken:
        known = [(point.point[setting], point.figures[figure].mean) for point in members if figure in point.figures]
        told = sorted(known[:most], key=lambda pair: positions[repr(pair[0])])
        shown = ", ".join(f"{_format(figure, mean)} at {_value(value)}" for value, mean in told)
        more = f" and {len(known) - most} more points" if len(known) > most else ""
        if shown:
            sentences.append(f"{name[0].upper()}{name[1:]}: {shown}{more}.")
    return " ".join(sentences)


def _format(figure: str, mean: float) -> str:
    if figure.endswith("accuracy"):
        return format_share(mean)
    return format_share(mean, signed=True) if figure == "gain" else format_number(mean)


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)
