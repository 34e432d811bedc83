"""The graph of artifacts as SVG: a line of text for each step, and an arc to each step that reads its artifact."""

from collections.abc import Sequence

import numpy as np
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from dpt_ray.report.canvas import SERIES_COLORS, TEXT_COLOR, Panel, new_canvas, to_svg, wrapped_name
from dpt_ray.report.content import StepRecord

_LINE_INCHES = 0.27
_WIDTH_INCHES = 5.4
_ARCS_SHARE = 0.34
"""Share of the width that arcs may take; the rest is text."""
_CHARACTERS = 42
"""Of a line of text."""


def lineage_panel(steps: Sequence[StepRecord]) -> Panel | None:
    """Draw which step reads whose artifact; None if no step names its parents.

    Args:
        steps: parents before children. A parent that is not among them is left out.
    """
    place = {step.address: number for number, step in enumerate(steps)}
    edges = [(place[parent], number) for number, step in enumerate(steps) for parent in step.parents if parent in place]
    if not edges:
        return None
    titles = [wrapped_name(step.title, _CHARACTERS) for step in steps]
    heights = np.array([1 + 0.6 * title.count("\n") for title in titles])  # of each step, in lines
    rows = np.cumsum(heights) - heights / 2
    longest = max(child - parent for parent, child in edges)
    figure, axes = new_canvas(_WIDTH_INCHES, _LINE_INCHES * heights.sum() + 0.2)
    axes.set_axis_off()
    axes.set_xlim(-_ARCS_SHARE, 1 - _ARCS_SHARE)
    axes.set_ylim(heights.sum(), 0)
    colors = [SERIES_COLORS[number % len(SERIES_COLORS)] for number in range(len(steps))]
    for parent, child in edges:
        reach = -_ARCS_SHARE * ((child - parent) / longest) ** 0.6 * 4 / 3  # the curve goes to 3/4 of its handles
        ends = (0, rows[parent]), (0, rows[child])
        curve = Path([ends[0], (reach, ends[0][1]), (reach, ends[1][1]), ends[1]], [Path.MOVETO, *[Path.CURVE4] * 3])
        axes.add_patch(PathPatch(curve, fill=False, edgecolor=colors[parent], linewidth=1.1, alpha=0.8))
    axes.scatter([0] * len(steps), rows, s=16, color=colors, zorder=3)
    for row, title in zip(rows, titles, strict=True):
        text = axes.text(0.025, row, title, size=9, color=TEXT_COLOR, va="center")
        text.set_parse_math(False)
        text.set_in_layout(False)  # its width would shrink the axes
    alt = f"{len(steps)} steps and {len(edges)} arcs, each from a step to a later one that reads its artifact."
    return Panel(to_svg(figure, salt="lineage"), alt)
