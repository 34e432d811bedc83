"""Tables of the comparison of heads and choices of labelled images."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from dpt_ray.experiments.statistics import gain_text, score_text
from dpt_ray.experiments.study.few_labels import FewLabelsRow
from dpt_ray.tables import markdown_table


def accuracies_table(rows: Sequence[FewLabelsRow], on: Literal["unlabelled", "test"]) -> str:
    """Return accuracies as Markdown, with the gain of the last head over the first, paired by seed.

    Args:
        rows: result of `compare_few_labels`.
        on: unlabelled training images or held-out ones.
    """
    heads = list(rows[0].test)
    gain = f"{heads[-1]} over {heads[0]}, points"
    table: list[tuple[str, ...]] = [("features", "labelled images", "labels a class", "classes", *heads, gain)]
    for (features, choice, count), cell in _cells(rows).items():
        values = {head: [getattr(row, on)[head] for row in cell] for head in heads}
        scores = [score_text(values[head]) for head in heads]
        classes = f"{np.mean([row.classes for row in cell]):.1f}"
        table.append((features, choice, str(count), classes, *scores, gain_text(values[heads[0]], values[heads[-1]])))
    return markdown_table(table)


def confidence_table(rows: Sequence[FewLabelsRow]) -> str:
    """Return mean confidence less accuracy on held-out images as Markdown, in points: above 0, a head is too sure."""
    heads = list(rows[0].test)
    table: list[tuple[str, ...]] = [("features", "labelled images", "labels a class", *heads)]
    for (features, choice, count), cell in _cells(rows).items():
        gaps = [float(np.mean([row.confidence[head] - row.test[head] for row in cell])) for head in heads]
        table.append((features, choice, str(count), *(f"{100 * gap:+.1f}" for gap in gaps)))
    return markdown_table(table)


def _cells(rows: Sequence[FewLabelsRow]) -> dict[tuple[str, str, int], list[FewLabelsRow]]:
    found: dict[tuple[str, str, int], list[FewLabelsRow]] = {}
    for row in rows:
        found.setdefault((row.features, row.choice, row.per_class), []).append(row)
    return found


def choices_table(rows: Sequence[FewLabelsRow], before: str) -> str:
    """Return the gain of every choice of images over `before` on held-out images, as Markdown, paired by seed."""
    heads = list(rows[0].test)
    table: list[tuple[str, ...]] = [("features", "labelled images", "labels a class", *heads)]
    cells = _cells(rows)
    for (features, choice, count), cell in cells.items():
        known = cells.get((features, before, count))
        if choice != before and known is not None:
            gains = [gain_text([row.test[head] for row in known], [row.test[head] for row in cell]) for head in heads]
            table.append((features, choice, str(count), *gains))
    return markdown_table(table)


def self_training_table(rows: Sequence[FewLabelsRow]) -> str:
    """Return what a second fit to all training images with a head's own classes gains, on held-out images."""
    heads = list(rows[0].test)
    table: list[tuple[str, ...]] = [("features", "labelled images", "labels a class", *heads)]
    for (features, choice, count), cell in _cells(rows).items():
        gains = [
            gain_text([row.test[head] for row in cell], [(row.self_trained or {})[head] for row in cell])
            for head in heads
        ]
        table.append((features, choice, str(count), *gains))
    return markdown_table(table)
