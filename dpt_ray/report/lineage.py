"""The graph of artifacts as SVG: a line of text for each step, and an arc to each step that reads its artifact."""

from collections.abc import Sequence

from matplotlib.patches import PathPatch
from matplotlib.path import Path

from dpt_ray.report.canvas import SERIES_COLORS, TEXT_COLOR, Panel, new_canvas, to_svg
from dpt_ray.report.content import StepRecord

_LINE_INCHES = 0.27
_WIDTH_INCHES = 5.4
_ARCS_SHARE = 0.34
"""Share of the width that arcs may take; the rest is text."""


def lineage_panel(steps: Sequence[StepRecord]) -> Panel | None:
    """Draw which step reads whose artifact; None if no step names its parents.

    Args:
        steps: parents before children. A parent that is not among them is left out.
    """
    place = {step.address: number for number, step in enumerate(steps)}
    edges = [(place[parent], number) for number, step in enumerate(steps) for parent in step.parents if parent in place]
    if not edges:
        return None
    longest = max(child - parent for parent, child in edges)
    figure, axes = new_canvas(_WIDTH_INCHES, _LINE_INCHES * len(steps) + 0.2)
    axes.set_axis_off()
    axes.set_xlim(-_ARCS_SHARE, 1 - _ARCS_SHARE)
    axes.set_ylim(len(steps) - 0.4, -0.6)
    for parent, child in edges:
        reach = -_ARCS_SHARE * ((child - parent) / longest) ** 0.6 * 4 / 3  # the curve goes to 3/4 of its handles
        curve = Path([(0, parent), (reach, parent), (reach, child), (0, child)], [Path.MOVETO, *[Path.CURVE4] * 3])
        color = SERIES_COLORS[parent % len(SERIES_COLORS)]
        axes.add_patch(PathPatch(curve, fill=False, edgecolor=color, linewidth=1.1, alpha=0.8))
    axes.scatter(
        [0] * len(steps), range(len(steps)), s=16, color=[SERIES_COLORS[n % len(SERIES_COLORS)] for n in place.values()]
    )
    for number, step in enumerate(steps):
        text = axes.text(0.025, number, step.title, size=9, color=TEXT_COLOR, va="center")
        text.set_parse_math(False)
    alt = f"{len(steps)} steps and {len(edges)} arcs, each from a step to a later one that reads its artifact."
    return Panel(to_svg(figure, salt="lineage"), alt)
