"""Line charts of trainings and the reliability of confidences as SVG."""

from itertools import chain

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from dpt_ray.report.canvas import (
    PANEL_INCHES,
    SERIES_COLORS,
    TEXT_COLOR,
    Panel,
    add_legend,
    new_canvas,
    to_svg,
)
from dpt_ray.report.content import Curve, Reliability
from dpt_ray.tables import format_number

MAX_POINTS = 400
_SHARE_WORDS = ("share", "accuracy", "threshold", "confidence", "precision", "recall")


def curve_panels(curve: Curve) -> list[Panel]:
    """Draw the metrics of a training: losses in one panel, shares in one, every other metric in its own.

    The y axis of losses and other metrics is logarithmic where the values, all positive, span more than a decade.
    """
    panels = []
    for names, series in _grouped(curve):
        figure, axes = new_canvas(*PANEL_INCHES)
        for i, (name, (x, y)) in enumerate(zip(names, series, strict=True)):
            color = SERIES_COLORS[i % len(SERIES_COLORS)]
            style = "-" if i < len(SERIES_COLORS) else "--"
            marker = "o" if len(x) < 3 else None
            axes.plot(*_thin(x, y), style, color=color, label=_words(name), linewidth=1.6, marker=marker, markersize=4)
        values = np.concatenate([y for _, y in series])
        _scale_y(axes, values[np.isfinite(values)], is_share=_kind(names[0]) == "share")
        axes.set_xlabel(curve.x_label, parse_math=False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        add_legend(axes, columns=min(3, len(names)))
        panels.append(Panel(to_svg(figure, salt=f"{curve.title}/{names[0]}"), _describe(curve, names, series)))
    return panels


def reliability_panel(reliability: Reliability) -> Panel:
    """Draw the accuracy of predictions over their confidence, one dot a bin, its area the share of images."""
    bins = reliability.bins
    confidence, accuracy = (np.array([getattr(bin, name) for bin in bins]) for name in ("confidence", "accuracy"))
    shares = np.array([bin.images for bin in bins]) / sum(bin.images for bin in bins)
    figure, axes = new_canvas(*PANEL_INCHES)
    axes.plot([0, 1], [0, 1], "--", color=TEXT_COLOR, linewidth=1, label="calibrated")
    axes.scatter(
        confidence, accuracy, s=12 + 240 * shares, color=SERIES_COLORS[0], label="bins", zorder=3, clip_on=False
    )
    axes.set_xlim(0, 1.03)
    axes.set_ylim(-0.03, 1.05)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda share, _: f"{round(100 * share, 2):g}%")
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy", color=TEXT_COLOR, size=9)
    add_legend(axes, columns=2)
    worst = max(bins, key=lambda bin: bin.images * abs(bin.accuracy - bin.confidence))
    alt = (
        f"{reliability.title}: accuracy over confidence. Where they differ most, {worst.images:,} images have "
        f"a confidence of {worst.confidence:.1%} and {worst.accuracy:.1%} of their predictions are right."
    )
    return Panel(to_svg(figure, salt=f"reliability/{reliability.title}"), alt)


def _kind(name: str) -> str:
    if "loss" in name:
        return "loss"
    return "share" if any(word in name for word in _SHARE_WORDS) else name


def _grouped(curve: Curve) -> list[tuple[list[str], list[tuple[np.ndarray, np.ndarray]]]]:
    groups: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for name, (x, y) in curve.series().items():
        group = groups.setdefault(_kind(name), {})
        # A supervised training's loss is its labelled loss: one line, not two of which one hides the other.
        twin = any(np.array_equal(y, other, equal_nan=True) for _, other in group.values())
        if np.isfinite(y).any() and not twin:
            group[name] = (x, y)
    return [(list(group), list(group.values())) for group in groups.values() if group]


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average neighbours until `MAX_POINTS` remain; a value that is not finite makes a gap in the line."""
    y = np.where(np.isfinite(y), y, np.nan)
    size = -(-len(x) // MAX_POINTS)
    starts = np.arange(0, len(x), size)
    counts = np.diff(np.append(starts, len(x)))
    return np.add.reduceat(x, starts) / counts, np.add.reduceat(y, starts) / counts


def _scale_y(axes: Axes, values: np.ndarray, *, is_share: bool) -> None:
    if is_share and values.min() >= 0 and values.max() <= 1:
        axes.set_ylim(-0.03, 1.03)
    elif values.min() > 0 and values.max() > 10 * values.min():
        axes.set_yscale("log")
        if values.max() < 100 * values.min():  # powers of ten alone would be one label, or two
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def _describe(curve: Curve, names: list[str], series: list[tuple[np.ndarray, np.ndarray]]) -> str:
    parts = [
        f"{_words(name)} from {format_number(float(y[0]))} to {format_number(float(y[-1]))}"
        for name, (_, y) in zip(names, series, strict=True)
    ]
    last = max(float(x[-1]) for x, _ in series)
    return f"{curve.title}: {'; '.join(parts)}, over {format_number(last)} {curve.x_label}."


def _words(name: str) -> str:
    return name.replace("_", " ").strip()


def has_nonfinite(curve: Curve) -> bool:
    """Say whether some value of the curve can't be drawn."""
    return not np.isfinite(np.fromiter(chain.from_iterable(y for _, y in curve.series().values()), float)).all()
