"""A confusion matrix as one PNG, for a network that is still being trained."""

import io
import warnings
from collections.abc import Sequence

import numpy as np

from dpt_ray.report.canvas import TEXT_COLOR, new_canvas

MAX_CLASSES = 20
"""Classes that one picture shows; the names of more could not be read."""

_OTHERS = "all others"
_CELL_INCHES, _MARGIN_INCHES = 0.34, 2.6
_DARK = 0.55  # share above which a cell has white digits
_MAX_NAME = 24


def confusion_png(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str], caption: str) -> bytes:
    """Draw a confusion matrix, each row as shares of its images in percent.

    More than `MAX_CLASSES` classes are not all shown: those with most mistakes are, and one more column has the rest.

    Args:
        labels: given class of each image, int64 (N,).
        predicted: predicted classes of the same images.
        names: name of each class.
        caption: stands above the matrix.

    Returns:
        The PNG file.
    """
    counts, rows, columns = _shown(labels, predicted, names)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    width, height = (_MARGIN_INCHES + _CELL_INCHES * len(labels) for labels in (columns, rows))
    figure, axes = new_canvas(width, height)
    axes.grid(visible=False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    axes.set_xticks(range(len(columns)), columns, rotation=90)
    axes.set_yticks(range(len(rows)), rows)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)
    for (row, column), share in np.ndenumerate(shares):
        if counts[row, column]:
            color = "white" if share > _DARK else "#1f2328"
            axes.text(column, row, f"{share * 100:.0f}", ha="center", va="center", size=7, color=color)
    axes.set_title(caption, size=9, color=TEXT_COLOR)
    axes.set_xlabel("predicted class, % of the row's images")
    axes.set_ylabel("given class", size=9, color=TEXT_COLOR)
    buffer = io.BytesIO()
    with warnings.catch_warnings():  # a script that the font lacks
        warnings.filterwarnings("ignore", message=".*missing from font.*")
        figure.savefig(buffer, format="png", dpi=110, facecolor="white")
    return buffer.getvalue()


def _shown(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[str], list[str]]:
    """Return the counts to draw, and the names of their rows and columns."""
    kept = np.arange(len(names))
    if len(names) > MAX_CLASSES:
        mistakes = np.bincount(labels[labels != predicted], minlength=len(names))
        kept = np.sort(np.argsort(-mistakes, kind="stable")[:MAX_CLASSES])
    place = np.full(len(names), len(kept))  # the last column has the classes that are not shown
    place[kept] = np.arange(len(kept))
    counts = np.zeros((len(kept) + 1, len(kept) + 1), np.int64)
    np.add.at(counts, (place[labels], place[predicted]), 1)
    shown = [_short(names[label]) for label in kept.tolist()]
    if len(kept) == len(names):
        return counts[:-1, :-1], shown, shown
    return counts[:-1], shown, [*shown, _OTHERS]


def _short(name: str) -> str:
    return name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"
