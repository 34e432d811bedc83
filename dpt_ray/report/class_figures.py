"""Figures of classes as SVG: accuracies of both stages, and pseudo-labels against pseudo images."""

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

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
from dpt_ray.report.class_content import ClassAudit, is_known

_QUALITY = (
    ("agreement", "agreement of pseudo images", "Agreement: stage 1 sees the requested class"),
    ("distance", "Fréchet distance", "Fréchet distance in stage 1's features"),
)
"""Field of `ClassAudit`, label of the axis, heading."""
DRAWN_CLASSES = 2000
"""Most classes of a scatter plot, which are then spread evenly over the ids. Each takes 260 characters of SVG."""


def accuracy_panel(classes: Sequence[ClassAudit]) -> Panel:
    """Compare stage-1 with stage-3 accuracy, one line of two dots a class, the first class on top.

    Args:
        classes: those to show, each with both accuracies.
    """
    before = np.array([audit.stage1_accuracy for audit in classes])
    after = np.array([audit.stage3_accuracy for audit in classes])
    names = [wrapped_name(audit.name) for audit in classes]
    heights = np.array([1 + 0.75 * name.count("\n") for name in names])  # of each class, in lines
    rows = np.cumsum(heights) - heights / 2 - 0.5
    figure, axes = new_canvas(5.6, 0.9 + 0.24 * heights.sum(), grid="x")
    axes.hlines(rows, before, after, color=TEXT_COLOR, linewidth=1.4, zorder=1)
    axes.scatter(before, rows, s=26, color=SERIES_COLORS[1], marker="D", label="stage 1", zorder=2)
    axes.scatter(after, rows, s=36, color=SERIES_COLORS[0], label="stage 3 (retrained)", zorder=3)
    axes.set_yticks(rows, names, parse_math=False)
    axes.set_ylim(heights.sum() - 0.4, -0.6)
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


def quality_panels(classes: Sequence[ClassAudit]) -> list[tuple[str, Panel]]:
    """Draw the quality of each class's pseudo images over the precision and over the recall of its pseudo-labels.

    Returns:
        Heading and picture, one for each measure of quality that is known of at least two classes.
    """
    panels = []
    for field, label, heading in _QUALITY:
        known = [
            (audit.precision, audit.recall, value)
            for audit in classes
            if is_known(audit.precision) and is_known(audit.recall) and is_known(value := getattr(audit, field))
        ]
        if len(known) > 1:
            panels.append((heading, _quality_panel(np.array(known), label, is_share=field == "agreement")))
    return panels


def _quality_panel(values: np.ndarray, label: str, *, is_share: bool) -> Panel:
    """Draw one measure of quality; `values` are precision, recall and quality, (classes, 3)."""
    every = len(values)
    values = values[np.linspace(0, every - 1, min(every, DRAWN_CLASSES)).round().astype(int)]
    figure, axes = new_canvas(*PANEL_INCHES, grid="both")
    for column, (name, marker) in enumerate((("precision", "o"), ("recall", "D"))):
        # A line without strokes: a point of a scatter plot takes 750 characters of SVG, that of a line 130.
        axes.plot(values[:, column], values[:, 2], marker, markersize=4.5, color=SERIES_COLORS[column], label=name)
    axes.set_xlabel("precision or recall of the class's pseudo-labels")
    axes.set_ylabel(label, color=TEXT_COLOR, size=9)
    for axis in (axes.xaxis, axes.yaxis) if is_share else (axes.xaxis,):
        axis.set_major_formatter(lambda share, _: f"{round(100 * share, 2):g}%")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    add_legend(axes, columns=2)
    low, high = (f"{bound:.1%}" if is_share else f"{bound:.3g}" for bound in (values[:, 2].min(), values[:, 2].max()))
    drawn = f"{len(values)}" if every == len(values) else f"{len(values):,} of {every:,}"
    alt = f"{label[0].upper()}{label[1:]} of {drawn} classes, from {low} to {high}, over precision and recall."
    return Panel(to_svg(figure, salt=f"quality/{label}"), alt)
