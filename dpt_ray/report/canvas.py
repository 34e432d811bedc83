"""A drawing area for line charts, and its way into a page: an SVG that takes the page's font and colours.

Drawn with matplotlib's objects, never with pyplot, which would keep every figure alive.
"""

import io
import re
import textwrap
import warnings
from dataclasses import dataclass
from typing import Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PANEL_INCHES = (4.8, 2.7)

# Matplotlib draws in the light theme; `_restyle` turns each colour into a CSS variable with that fallback.
SERIES_COLORS = ("#0068a8", "#c05000", "#008f68", "#c0609a")
TEXT_COLOR, _LINE_COLOR = "#59636e", "#d3d7d2"
_CSS_COLORS = {
    **{color: f"var(--series-{i}, {color})" for i, color in enumerate(SERIES_COLORS, 1)},
    TEXT_COLOR: f"var(--muted, {TEXT_COLOR})",
    _LINE_COLOR: f"var(--line, {_LINE_COLOR})",
}


@dataclass(frozen=True)
class Panel:
    """One picture: its SVG, and in words what it shows."""

    svg: str
    alt: str


def new_canvas(width: float, height: float, *, grid: Literal["both", "x", "y"] = "y") -> tuple[Figure, Axes]:
    """Return a figure of so many inches and its axes, with a grid along one axis or both."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_LINE_COLOR)
    axes.tick_params(which="both", color=_LINE_COLOR, labelcolor=TEXT_COLOR, labelsize=9)
    axes.xaxis.label.set(color=TEXT_COLOR, size=9)
    axes.grid(axis=grid, color=_LINE_COLOR, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.ticklabel_format(useOffset=False)  # "+1.999" above an axis lies on the legend, and hides what is shown
    return figure, axes


def add_legend(axes: Axes, columns: int) -> None:
    """Put the legend above the axes."""
    legend = axes.legend(
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=TEXT_COLOR,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0,
        handlelength=1.4,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def wrapped_name(name: str, width: int = 24) -> str:
    """Return a name in lines of at most `width` characters; nothing of it is cut."""
    return "\n".join(textwrap.wrap(" ".join(name.split()), width)) or " "


def to_svg(figure: Figure, salt: str) -> str:
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
