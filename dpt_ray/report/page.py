"""The run report as one HTML file; its sections and their words stand in `templates/run.html.j2`."""

from collections.abc import Sequence
from dataclasses import dataclass

from dpt_ray.report.canvas import Panel
from dpt_ray.report.content import ClassAudit, ImageList, Overlap, Report, is_known, most_changed, worst_first
from dpt_ray.report.figures import accuracy_panel, curve_panels, has_nonfinite, reliability_panel
from dpt_ray.report.page_templates import Column, Table, render_page
from dpt_ray.tables import format_number, format_seconds, format_share

MAX_GRID_ROWS = 20
MAX_GRID_COLUMNS = 10
MAX_OPEN_CLASSES = 20
LEFT_OUT_ROWS = 100


def render(report: Report) -> str:
    """Return the whole page; equal reports give equal text. Sections that have nothing to say are left out."""
    return render_page(
        "run.html.j2",
        report=report,
        samples=report.grid.thin(MAX_GRID_ROWS, MAX_GRID_COLUMNS) if report.grid is not None else None,
        curves=[(curve.title, panel) for curve in report.curves for panel in curve_panels(curve)],
        curves_have_gaps=any(map(has_nonfinite, report.curves)),
        metrics=_metrics_table(report),
        reliability=reliability_panel(report.reliability) if report.reliability else None,
        classes=_describe_classes(report.classes),
        image_lists=[(found, _images_table(found)) for found in report.image_lists if found.total],
        pairs=_pairs_table(report.overlap) if report.overlap is not None else None,
        steps=_steps_table(report),
        left_out=_left_out_table(report),
    )


@dataclass(frozen=True)
class _Classes:
    """The section of classes.

    Attributes:
        recall_is_known: of at least one class, so that they have an order.
        truth_is_known: some true labels are.
        comparison: accuracy before and after retraining; None if that is known of no class.
        compared: classes in the comparison.
        open: the classes that are shown at once.
        folded: the others.
    """

    recall_is_known: bool
    truth_is_known: bool
    comparison: Panel | None
    compared: int
    open: Table
    folded: Table


def _describe_classes(classes: Sequence[ClassAudit]) -> _Classes:
    ranked, compared = worst_first(classes), most_changed(classes, MAX_OPEN_CLASSES)
    return _Classes(
        recall_is_known=any(is_known(audit.recall) for audit in classes),
        truth_is_known=any(audit.images is not None for audit in classes),
        comparison=accuracy_panel(compared) if compared else None,
        compared=len(compared),
        open=_class_table("Classes", ranked[:MAX_OPEN_CLASSES]),
        folded=_class_table("Other classes", ranked[MAX_OPEN_CLASSES:]),
    )


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


def _metrics_table(report: Report) -> Table:
    columns = (Column("Metric", "name"), Column("Value", "number"), Column("Meaning", "text"))
    rows = [
        (metric.name, f"{format_number(metric.value)} {metric.unit}".strip(), metric.meaning)
        for metric in report.metrics
    ]
    return Table("Metrics", columns, rows)


def _images_table(found: ImageList) -> Table:
    columns = (
        Column("Image", "code"),
        Column("Class", "name"),
        Column("Stage 1", "text"),
        Column("Stage 3", "text"),
        Column("Confidence", "number"),
    )
    rows = [
        (image.key, image.true, image.stage1, image.stage3, format_share(image.confidence)) for image in found.images
    ]
    return Table(found.title, columns, rows)


def _pairs_table(overlap: Overlap) -> Table:
    columns = (Column("Held-out image", "code"), Column("Training image", "code"), Column("Differing bits", "number"))
    rows = [
        (pair.held_out, pair.training, "equal pixels" if pair.bits is None else f"{pair.bits} of 255")
        for pair in overlap.pairs
    ]
    return Table("Pairs", columns, rows)


def _steps_table(report: Report) -> Table:
    columns = (Column("Step", "name"), Column("Time", "number"), Column("Result", "text"), Column("Address", "code"))
    rows = [(step.title, format_seconds(step.seconds), step.summary, step.address) for step in report.steps]
    return Table("Steps", columns, rows)


def _left_out_table(report: Report) -> Table:
    columns = (
        Column("Step", "name"),
        Column("Shard or file", "code"),
        Column("Image", "code"),
        Column("Reason", "text"),
        Column("Images", "number"),
    )
    rows = [
        (entry.step, entry.where, entry.image, entry.reason, f"{entry.images:,}")
        for entry in report.left_out[:LEFT_OUT_ROWS]
    ]
    return Table("Left out", columns, rows)
