"""The sections of a report that go class by class: tables of classes, and confusion matrices."""

from collections.abc import Sequence
from dataclasses import dataclass

from dpt_ray.report.canvas import Panel
from dpt_ray.report.class_content import (
    ClassAudit,
    Confusion,
    best_and_worst,
    by_accuracy,
    is_known,
    most_changed,
    rank_correlation,
)
from dpt_ray.report.class_figures import accuracy_panel, quality_panels
from dpt_ray.report.page_templates import Column, Table
from dpt_ray.tables import format_number, format_share

MAX_OPEN_CLASSES = 20
MAX_CONFUSION_CLASSES = 20
WORST_PAIRS = 20
LISTED_CLASSES = 1000
"""Most classes that a page lists, folded ones included: the worst and the best. `metrics.json` has all."""
_LONGEST_HEADING = 4
"""Characters of a class name that stands above a column of a confusion matrix; longer names are numbered."""


@dataclass(frozen=True)
class ClassesSection:
    """The section of classes.

    Attributes:
        truth_is_known: some true labels are.
        comparison: accuracy before and after retraining; None if that is known of no class.
        compared: classes in the comparison.
        worst: the classes that are shown first, lowest accuracy of stage 3 first.
        best: those of highest accuracy; without rows if all classes stand in `worst`.
        others: the next ones, in the order of ids; all others up to `LISTED_CLASSES`.
        unlisted: number of classes that are in no table.
    """

    truth_is_known: bool
    comparison: Panel | None
    compared: int
    worst: Table
    best: Table
    others: Table
    unlisted: int


def describe_classes(classes: Sequence[ClassAudit]) -> ClassesSection:
    """Return what the section of classes shows."""
    compared = most_changed(classes, MAX_OPEN_CLASSES)
    worst, best = best_and_worst(classes, MAX_OPEN_CLASSES)
    shown = {id(audit) for audit in (*worst, *best)}
    listed = {id(audit) for audit in _ends(by_accuracy(classes), LISTED_CLASSES)}
    others = [audit for audit in classes if id(audit) in listed and id(audit) not in shown]
    return ClassesSection(
        truth_is_known=any(audit.images is not None for audit in classes),
        comparison=accuracy_panel(compared) if compared else None,
        compared=len(compared),
        worst=_class_table("Classes, lowest accuracy first", worst),
        best=_class_table("Classes, highest accuracy first", best),
        others=_class_table("Other classes", others),
        unlisted=len(classes) - len(shown) - len(others),
    )


def _ends(ranked: Sequence[ClassAudit], limit: int) -> list[ClassAudit]:
    """Return the first and the last of ranked classes, `limit` together; all if there are no more."""
    if len(ranked) <= limit:
        return list(ranked)
    return [*ranked[: limit - limit // 2], *ranked[len(ranked) - limit // 2 :]]


def _class_table(label: str, classes: Sequence[ClassAudit]) -> Table:
    names = ("Images", "Labelled", "Pseudo-labelled", "Precision", "Recall", "Stage 1", "Stage 3", "Change (points)")
    columns = (Column("Class", "name"), *(Column(name, "number") for name in names))
    rows = [
        (
            audit.name,
            *map(format_number, (audit.images, audit.labelled, audit.pseudo_labelled)),
            *map(format_share, (audit.precision, audit.recall, audit.stage1_accuracy, audit.stage3_accuracy)),
            format_share(audit.change, signed=True),
        )
        for audit in classes
    ]
    return Table(label, columns, rows)


@dataclass(frozen=True)
class QualitySection:
    """Pseudo-labels of each class beside the quality of its pseudo images.

    Attributes:
        panels: heading and scatter plot, one for each measure of quality.
        correlations: rank correlations in a sentence each.
        table: worst quality first; of more than `LISTED_CLASSES` classes the worst and the best.
    """

    panels: Sequence[tuple[str, Panel]]
    correlations: Sequence[str]
    table: Table


def describe_quality(classes: Sequence[ClassAudit]) -> QualitySection | None:
    """Return the section; None where labels or images of fewer than two classes can be judged."""
    panels = quality_panels(classes)
    if not panels:
        return None
    names = ("Precision", "Recall", "Agreement", "Fréchet distance")
    columns = (Column("Class", "name"), *(Column(name, "number") for name in names))
    ranked = sorted(classes, key=lambda audit: -audit.distance if is_known(audit.distance) else audit.agreement or 0.0)
    rows = [
        (
            audit.name,
            *map(format_share, (audit.precision, audit.recall, audit.agreement)),
            format_number(audit.distance),
        )
        for audit in _ends(ranked, LISTED_CLASSES)
    ]
    return QualitySection(panels, _correlations(classes), Table("Pseudo-labels and pseudo images", columns, rows))


def _correlations(classes: Sequence[ClassAudit]) -> list[str]:
    measures = (("agreement", "agreement"), ("distance", "Fréchet distance"))
    sentences = []
    for field, name in measures:
        parts = [
            f"{label} {value:+.2f}"
            for label in ("precision", "recall")
            if (value := rank_correlation([getattr(a, label) for a in classes], [getattr(a, field) for a in classes]))
            is not None
        ]
        if parts:
            sentences.append(f"Rank correlation of the {name} over classes: with {', with '.join(parts)}.")
    return sentences


@dataclass(frozen=True)
class Cell:
    """An entry of a confusion matrix.

    Attributes:
        images: their number.
        shade: depth of the colour, in per cent: the share of the class's images.
        is_right: whether the predicted class is the true one.
    """

    images: int
    shade: int
    is_right: bool


@dataclass(frozen=True)
class ConfusionSection:
    """A confusion matrix, or the worst pairs of one with many classes.

    Attributes:
        title: which classifier.
        headings: of the columns; empty for a matrix that is not shown.
        rows: name of the true class, and its cells.
        pairs: the most frequent mistakes.
        mistakes: pairs of classes that were confused, all together.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    pairs: Table
    mistakes: int


def describe_confusion(confusion: Confusion) -> ConfusionSection:
    """Return what the page shows of a confusion matrix."""
    names, images = confusion.class_names, confusion.images_of()
    mistakes = confusion.mistakes()
    columns = (
        Column("Class", "name"),
        Column("Predicted as", "text"),
        Column("Images", "number"),
        Column("Of the class", "number"),
    )
    pairs = [
        (names[p.true], names[p.predicted], f"{p.images:,}", format_share(p.images / images[p.true]))
        for p in mistakes[:WORST_PAIRS]
    ]
    table = Table(f"Most frequent mistakes, {confusion.title}", columns, pairs)
    if len(names) > MAX_CONFUSION_CLASSES:
        return ConfusionSection(confusion.title, (), (), table, len(mistakes))
    is_short = all(len(name) <= _LONGEST_HEADING for name in names)
    headings = list(names) if is_short else [f"#{number}" for number in range(1, len(names) + 1)]
    counts = {(pair.true, pair.predicted): pair.images for pair in confusion.pairs}
    rows = []
    for true, name in enumerate(names):
        found = [counts.get((true, predicted), 0) for predicted in range(len(names))]
        cells = [
            Cell(count, round(45 * count / max(1, images[true])), true == predicted)
            for predicted, count in enumerate(found)
        ]
        rows.append((name if is_short else f"{headings[true]} {name}", cells))
    return ConfusionSection(confusion.title, headings, rows, table, len(mistakes))
