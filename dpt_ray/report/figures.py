"""Line charts and the per-class comparison as SVG that takes the page's font and colours.

Drawn with matplotlib's objects, never with pyplot, which would keep every figure alive.
"""

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter

from dpt_ray.report.content import ClassAudit, Curve
from dpt_ray.tables import format_number

if TYPE_CHECKING:
    from dpt_ray.core.metrics.calibration import ReliabilityBin

MAX_POINTS = 400
PANEL_INCHES = (4.8, 2.7)

# Matplotlib draws in the light theme; `_restyle` turns each colour into a CSS variable with that fallback.
SERIES_COLORS = ("#1f5fa8", "#b3500b", "#2f7a4f", "#7d3fa0")
_TEXT_COLOR, _LINE_COLOR = "#59636e", "#d3d7d2"
_CSS_COLORS = {
    **{color: f"var(--series-{i}, {color})" for i, color in enumerate(SERIES_COLORS, 1)},
    _TEXT_COLOR: f"var(--muted, {_TEXT_COLOR})",
    _LINE_COLOR: f"var(--line, {_LINE_COLOR})",
}
_SHARE_WORDS = ("share", "accuracy", "threshold", "confidence", "precision", "recall")


@dataclass(frozen=True)
class Panel:
    """One picture: its SVG, and in words what it shows."""

    svg: str
    alt: str


def curve_panels(curve: Curve) -> list[Panel]:
    """Draw the metrics of a training: losses in one panel, shares in one, every other metric in its own.

    The y axis of losses and other metrics is logarithmic where the values, all positive, span more than a decade.
    """
    panels = []
    for names, series in _grouped(curve):
        figure, axes = _canvas(*PANEL_INCHES)
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
        _legend(axes, columns=min(3, len(names)))
        panels.append(Panel(_to_svg(figure, salt=f"{curve.title}/{names[0]}"), _describe(curve, names, series)))
    return panels


def accuracy_panel(classes: Sequence[ClassAudit]) -> Panel:
    """Compare stage-1 with stage-3 accuracy, one line of two dots a class, the first class on top.

    Args:
        classes: those to show, each with both accuracies.
    """
    before = np.array([audit.stage1_accuracy for audit in classes])
    after = np.array([audit.stage3_accuracy for audit in classes])
    rows = np.arange(len(classes))
    figure, axes = _canvas(5.6, 0.9 + 0.24 * len(classes), grid="x")
    axes.hlines(rows, before, after, color=_TEXT_COLOR, linewidth=1.4, zorder=1)
    axes.scatter(before, rows, s=26, color=SERIES_COLORS[1], marker="D", label="stage 1", zorder=2)
    axes.scatter(after, rows, s=36, color=SERIES_COLORS[0], label="stage 3 (retrained)", zorder=3)
    axes.set_yticks(rows, [_short(audit.name) for audit in classes], parse_math=False)
    axes.set_ylim(len(classes) - 0.4, -0.6)
    low, high = min(before.min(), after.min()), max(before.max(), after.max())
    margin = 0.05 * max(high - low, 0.1)
    axes.set_xlim(max(low - margin, -0.02), min(high + margin, 1.02))
    axes.xaxis.set_major_formatter(lambda share, _: f"{round(100 * share, 2):g}%")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xlabel("accuracy on held-out images")
    _legend(axes, columns=2)
    gained = int((after > before).sum())
    alt = f"Accuracy by class: {gained} of the {len(classes)} classes shown gained from stage 1 to stage 3."
    return Panel(_to_svg(figure, salt="accuracy"), alt)


def reliability_panel(bins: "Sequence[ReliabilityBin]") -> Panel:
    """Draw the accuracy of pseudo-labels over their confidence, one dot a bin, its area the share of images."""
    confidence, accuracy = (np.array([getattr(bin, name) for bin in bins]) for name in ("confidence", "accuracy"))
    shares = np.array([bin.images for bin in bins]) / sum(bin.images for bin in bins)
    figure, axes = _canvas(*PANEL_INCHES)
    axes.plot([0, 1], [0, 1], "--", color=_TEXT_COLOR, linewidth=1, label="calibrated")
    axes.scatter(confidence, accuracy, s=12 + 240 * shares, color=SERIES_COLORS[0], label="pseudo-labels", zorder=3)
    axes.set_xlim(0, 1.03)
    axes.set_ylim(0, 1.05)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda share, _: f"{round(100 * share, 2):g}%")
    axes.set_xlabel("confidence")
    axes.set_ylabel("right", color=_TEXT_COLOR, size=9)
    _legend(axes, columns=2)
    worst = max(bins, key=lambda bin: bin.images * abs(bin.accuracy - bin.confidence))
    alt = (
        f"Accuracy of pseudo-labels over their confidence. Where they differ most, {worst.images:,} images have "
        f"a confidence of {worst.confidence:.0%} and {worst.accuracy:.0%} of their labels are right."
    )
    return Panel(_to_svg(figure, salt="reliability"), alt)


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


def _canvas(width: float, height: float, *, grid: str = "y") -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_LINE_COLOR)
    axes.tick_params(which="both", color=_LINE_COLOR, labelcolor=_TEXT_COLOR, labelsize=9)
    axes.xaxis.label.set(color=_TEXT_COLOR, size=9)
    axes.grid(axis=grid, color=_LINE_COLOR, linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def _legend(axes: Axes, columns: int) -> None:
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0, "handlelength": 1.4}
    legend = axes.legend(ncols=columns, frameon=False, fontsize=9, labelcolor=_TEXT_COLOR, **place)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _words(name: str) -> str:
    return name.replace("_", " ").strip()


def _short(name: str, limit: int = 24) -> str:
    name = " ".join(name.split())
    return name if len(name) <= limit else name[: limit - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def _to_svg(figure: Figure, salt: str) -> str:
    """Return the figure as one `<svg>` element; equal figures with equal `salt` give equal text."""
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}), warnings.catch_warnings():
        # A script that matplotlib's own font lacks is drawn by the browser with the page's font.
        warnings.filterwarnings("ignore", message=".*missing from font.*")
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    svg = buffer.getvalue()
    # No tag holds user text, and text holds no raw angle brackets, so only matplotlib's own markup is rewritten.
    return re.sub(r"<[^<>]+>", _restyle, re.sub(r"<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL))


def _restyle(match: re.Match[str]) -> str:
    tag = match.group()
    if tag.startswith("<svg"):
        # What matplotlib's stylesheet says, but without reaching beyond this picture.
        return re.sub(r' (width|height)="[^"]*"', "", tag).replace("<svg", '<svg stroke-linejoin="round"', 1)
    if tag.startswith("<g "):
        tag = re.sub(r' id="[^"]*"', "", tag)  # figure_1, axes_1, ...: would repeat in every picture of a page
    # Matplotlib writes the font in the short form for some text and in the long form for other.
    tag = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", re.sub(r"font-family: [^;\"]*(; )?", "", tag))
    return re.sub(r"#[0-9a-f]{6}(?=[;\"])", lambda color: _CSS_COLORS.get(color.group(), color.group()), tag)


def has_nonfinite(curve: Curve) -> bool:
    """Say whether some value of the curve can't be drawn."""
    return not np.isfinite(np.fromiter(chain.from_iterable(y for _, y in curve.series().values()), float)).all()
