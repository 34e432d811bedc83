"""Line charts of trainings, the per-class comparison and the reliability of pseudo-labels as SVG."""

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter

from dpt_ray.report.canvas import (
    PANEL_INCHES,
    SERIES_COLORS,
    TEXT_COLOR,
    Panel,
    add_legend,
    new_canvas,
    short_name,
    to_svg,
)
from dpt_ray.report.content import ClassAudit, Curve
from dpt_ray.tables import format_number

if TYPE_CHECKING:
    from dpt_ray.core.metrics.calibration import ReliabilityBin

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


def accuracy_panel(classes: Sequence[ClassAudit]) -> Panel:
    """Compare stage-1 with stage-3 accuracy, one line of two dots a class, the first class on top.

    Args:
        classes: those to show, each with both accuracies.
    """
    before = np.array([audit.stage1_accuracy for audit in classes])
    after = np.array([audit.stage3_accuracy for audit in classes])
    rows = np.arange(len(classes))
    figure, axes = new_canvas(5.6, 0.9 + 0.24 * len(classes), grid="x")
    axes.hlines(rows, before, after, color=TEXT_COLOR, linewidth=1.4, zorder=1)
    axes.scatter(before, rows, s=26, color=SERIES_COLORS[1], marker="D", label="stage 1", zorder=2)
    axes.scatter(after, rows, s=36, color=SERIES_COLORS[0], label="stage 3 (retrained)", zorder=3)
    axes.set_yticks(rows, [short_name(audit.name) for audit in classes], parse_math=False)
    axes.set_ylim(len(classes) - 0.4, -0.6)
    low, high = min(before.min(), after.min()), max(before.max(), after.max())
    margin = 0.05 * max(high - low, 0.1)
    axes.set_xlim(max(low - margin, -0.02), min(high + margin, 1.02))
    axes.xaxis.set_major_formatter(lambda share, _: f"{round(100 * share, 2):g}%")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xlabel("accuracy on held-out images")
    add_legend(axes, columns=2)
    gained = int((after > before).sum())
    alt = f"Accuracy by class: {gained} of the {len(classes)} classes shown gained from stage 1 to stage 3."
    return Panel(to_svg(figure, salt="accuracy"), alt)


def reliability_panel(bins: "Sequence[ReliabilityBin]") -> Panel:
    """Draw the accuracy of pseudo-labels over their confidence, one dot a bin, its area the share of images."""
    confidence, accuracy = (np.array([getattr(bin, name) for bin in bins]) for name in ("confidence", "accuracy"))
    shares = np.array([bin.images for bin in bins]) / sum(bin.images for bin in bins)
    figure, axes = new_canvas(*PANEL_INCHES)
    axes.plot([0, 1], [0, 1], "--", color=TEXT_COLOR, linewidth=1, label="calibrated")
    axes.scatter(confidence, accuracy, s=12 + 240 * shares, color=SERIES_COLORS[0], label="pseudo-labels", zorder=3)
    axes.set_xlim(0, 1.03)
    axes.set_ylim(0, 1.05)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda share, _: f"{round(100 * share, 2):g}%")
    axes.set_xlabel("confidence")
    axes.set_ylabel("right", color=TEXT_COLOR, size=9)
    add_legend(axes, columns=2)
    worst = max(bins, key=lambda bin: bin.images * abs(bin.accuracy - bin.confidence))
    alt = (
        f"Accuracy of pseudo-labels over their confidence. Where they differ most, {worst.images:,} images have "
        f"a confidence of {worst.confidence:.0%} and {worst.accuracy:.0%} of their labels are right."
    )
    return Panel(to_svg(figure, salt="reliability"), alt)


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
