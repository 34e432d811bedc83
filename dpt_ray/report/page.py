"""The run report as one HTML file; its sections and their words stand in `templates/run*.html.j2`."""

from dpt_ray.report.class_tables import describe_classes, describe_confusion, describe_quality
from dpt_ray.report.content import Reliability, Report
from dpt_ray.report.figures import curve_panels, has_nonfinite, reliability_panel
from dpt_ray.report.image_content import ImageList, Overlap, SampleGrid
from dpt_ray.report.lineage import lineage_panel
from dpt_ray.report.page_templates import Column, Table, render_page
from dpt_ray.report.run_tables import (
    left_out_table,
    metrics_table,
    parents_table,
    published_table,
    results_table,
    steps_table,
)
from dpt_ray.tables import format_share

MAX_GRID_ROWS = 20
MAX_GRID_COLUMNS = 8


def render(report: Report) -> str:
    """Return the whole page; equal reports give equal text. Sections that have nothing to say are left out."""
    return render_page(
        "run.html.j2",
        report=report,
        samples=_samples(report),
        curves=[(curve.title, panels) for curve in report.curves if (panels := curve_panels(curve))],
        curves_have_gaps=any(map(has_nonfinite, report.curves)),
        results=results_table(report),
        metrics=metrics_table(report),
        reliability=[(one, reliability_panel(one), _bins_table(one)) for one in report.reliability],
        classes=describe_classes(report.classes),
        quality=describe_quality(report.classes),
        confusions=[describe_confusion(confusion) for confusion in report.confusions],
        image_lists=[(found, _images_table(found)) for found in report.image_lists if found.total],
        pairs=_pairs_table(report.overlap) if report.overlap is not None else None,
        published=published_table(report),
        steps=steps_table(report),
        lineage=lineage_panel(report.steps),
        parents=parents_table(report),
        left_out=left_out_table(report),
        provenance=Table("Origin", (Column("What", "name"), Column("Value", "code")), report.provenance),
    )


def _samples(report: Report) -> list[tuple[str, SampleGrid]]:
    """Return the pictures that stand side by side, class by class, each with its kind."""
    if report.grid is None:
        return []
    kinds = [("real", report.real), ("pseudo", report.grid)]
    return [(kind, grid.thin(MAX_GRID_ROWS, MAX_GRID_COLUMNS)) for kind, grid in kinds if grid is not None]


def _bins_table(reliability: Reliability) -> Table:
    columns = tuple(Column(heading, "number") for heading in ("Confidence", "Accuracy", "Images"))
    rows = [(format_share(bin.confidence), format_share(bin.accuracy), f"{bin.images:,}") for bin in reliability.bins]
    return Table(f"Confidence, {reliability.title}", columns, rows)


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
