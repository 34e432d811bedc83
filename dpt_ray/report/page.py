"""The run report as one HTML file that needs no network and no scripts."""

import base64
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from dpt_ray.report.canvas import Panel
from dpt_ray.report.content import (
    ClassAudit,
    Curve,
    LeftOut,
    Overlap,
    Report,
    SampleGrid,
    is_known,
    most_changed,
    worst_first,
)
from dpt_ray.report.figures import accuracy_panel, curve_panels, has_nonfinite, reliability_panel
from dpt_ray.report.grid import grid_png
from dpt_ray.report.page_parts import (
    Column,
    document,
    figure_cards,
    format_date,
    html_table,
    inline_picture,
    note_list,
    page_section,
)
from dpt_ray.tables import format_number, format_seconds, format_share
from dpt_ray.text import html_text

if TYPE_CHECKING:
    from dpt_ray.core.metrics.calibration import ReliabilityBin

MAX_GRID_ROWS = 20
MAX_GRID_COLUMNS = 10
MAX_OPEN_CLASSES = 20
LEFT_OUT_ROWS = 100


def render(report: Report) -> str:
    """Return the whole page; equal reports give equal text. Sections that have nothing to say are left out."""
    sections = (
        _header(report),
        figure_cards(report.headline),
        note_list(report.notes),
        _samples(report),
        _curves(report.curves),
        _metrics(report),
        _reliability(report.reliability),
        _classes(report.classes),
        _overlap(report.overlap),
        _steps(report),
        _left_out(report.left_out),
        _settings(report.settings_yaml),
    )
    return document(report.title, "\n".join(section for section in sections if section))


def _header(report: Report) -> str:
    facts = [f'<time datetime="{html_text(report.created)}">{html_text(format_date(report.created))}</time>']
    if report.classes:
        facts.append(f"{len(report.classes):,} classes")
        facts.append(f"{sum(audit.labelled for audit in report.classes):,} labelled images")
    if report.steps:
        facts.append(f"{len(report.steps)} steps")
    return f'<header><h1>{html_text(report.title)}</h1><p class="muted">{" &middot; ".join(facts)}</p></header>'


def _samples(report: Report) -> str:
    if report.grid is None:
        return ""
    grid, total = report.grid.thin(MAX_GRID_ROWS, MAX_GRID_COLUMNS), len(report.grid.class_names)
    lead = "Made by the generator of stage 2 and not chosen by hand; each row is one class."
    if len(grid.class_names) < total:
        lead += f" {len(grid.class_names)} of {total:,} classes are shown, evenly spaced in their list."
    alt = f"Pseudo images of {len(grid.class_names)} classes, {grid.images.shape[1]} of each, one row a class"
    return page_section("samples", "Pseudo images", lead, _grid(grid, "Classes from top to bottom", alt))


def _grid(grid: SampleGrid, rows: str, alt: str) -> str:
    """Return the picture of a grid with the names of its rows beside it."""
    labels = "".join(f'<li title="{html_text(name)}"><span>{html_text(name)}</span></li>' for name in grid.class_names)
    image = base64.b64encode(grid_png(grid)).decode("ascii")
    return (
        f'<figure><div class="samples"><ol aria-label="{rows}">{labels}</ol>'
        f'<div><img alt="{alt}" src="data:image/png;base64,{image}"></div></div>'
        f"<figcaption>{html_text(grid.caption)}</figcaption></figure>"
    )


def _curves(curves: Sequence[Curve]) -> str:
    panels = "".join(
        f"<div><h3>{html_text(curve.title)}</h3>{inline_picture(panel)}</div>"
        for curve in curves
        for panel in curve_panels(curve)
    )
    if not panels:
        return ""
    lead = "How each training went: every value is the mean since the one before it, against images seen so far."
    if any(map(has_nonfinite, curves)):
        lead += " Values that are not finite are left out."
    return page_section("training", "Training", lead, f'<div class="panels">{panels}</div>')


def _metrics(report: Report) -> str:
    rows = [
        (metric.name, f"{format_number(metric.value)} {metric.unit}".strip(), metric.meaning)
        for metric in report.metrics
    ]
    columns = (Column("Metric", "name"), Column("Value", "number"), Column("Meaning", "text"))
    lead = "Every number that the evaluation measured, and what it means."
    return page_section("metrics", "Metrics", lead, html_table("Metrics", columns, rows)) if rows else ""


def _reliability(bins: "Sequence[ReliabilityBin]") -> str:
    if not bins:
        return ""
    lead = "Whether the confidence of pseudo-labels means what it says, on unlabelled images whose class is known."
    caption = "Dots below the line are overconfident. A dot's area is its share of the images."
    figure = _captioned(reliability_panel(bins), caption)
    return page_section("reliability", "Confidence of pseudo-labels", lead, figure)


def _classes(classes: Sequence[ClassAudit]) -> str:
    if not classes:
        return ""
    ranked = worst_first(classes)
    lead = "How well stage 1 labelled each class, and what retraining on pseudo images did to its accuracy"
    lead += "; worst recall first." if any(is_known(audit.recall) for audit in classes) else "."
    if all(audit.images is None for audit in classes):
        lead += " True labels are not known, so some columns are empty."
    body = _comparison(classes) + _class_table("Classes", ranked[:MAX_OPEN_CLASSES])
    rest = ranked[MAX_OPEN_CLASSES:]
    if rest:
        table = _class_table("Other classes", rest)
        body += f"<details><summary>The other {len(rest):,} classes</summary>{table}</details>"
    return page_section("classes", "Classes", lead, body)


def _comparison(classes: Sequence[ClassAudit]) -> str:
    shown = most_changed(classes, MAX_OPEN_CLASSES)
    if not shown:
        return ""
    every = len(shown) == len(classes)
    which = (
        "Sorted by gain" if every else f"The classes of highest and of lowest gain, {len(shown)} of {len(classes):,}"
    )
    caption = f"{which}: accuracy on held-out images before and after retraining."
    return _captioned(accuracy_panel(shown), caption)


def _captioned(panel: Panel, caption: str) -> str:
    return f'<figure class="comparison">{inline_picture(panel)}<figcaption>{caption}</figcaption></figure>'


def _class_table(label: str, classes: Iterable[ClassAudit]) -> str:
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
    return html_table(label, columns, rows)


def _overlap(overlap: Overlap | None) -> str:
    if overlap is None:
        return ""
    columns = (Column("Held-out image", "code"), Column("Training image", "code"), Column("Differing bits", "number"))
    rows = [
        (pair.held_out, pair.training, "equal pixels" if pair.bits is None else f"{pair.bits} of 255")
        for pair in overlap.pairs
    ]
    lead = (
        f"{html_text(overlap.findings)} A classifier may know such images by heart, so its accuracy on them says "
        "little. All pairs are listed in "
        f"<code>{html_text(overlap.listing)}</code>; here are the first."
    )
    alt = "Held-out images in the first row, below each the training image that it looks like"
    pictures = _grid(overlap.pictures, "Rows", alt) if overlap.pictures is not None else ""
    return page_section(
        "overlap", "Held-out images among the training images", lead, pictures + html_table("Pairs", columns, rows)
    )


def _steps(report: Report) -> str:
    columns = (Column("Step", "name"), Column("Time", "number"), Column("Result", "text"), Column("Address", "code"))
    rows = [(step.title, format_seconds(step.seconds), step.summary, step.address) for step in report.steps]
    lead = (
        "What the run is made of: an address names an artifact by everything that went into it, "
        "so a step whose address already exists is reused, and its time is that of its making."
    )
    return page_section("steps", "Steps", lead, html_table("Steps", columns, rows)) if rows else ""


def _left_out(entries: Sequence[LeftOut]) -> str:
    columns = (
        Column("Step", "name"),
        Column("Shard or file", "code"),
        Column("Image", "code"),
        Column("Reason", "text"),
        Column("Images", "number"),
    )
    rows = [
        (entry.step, entry.where, entry.image, entry.reason, f"{entry.images:,}") for entry in entries[:LEFT_OUT_ROWS]
    ]
    lead = (
        f"{sum(entry.images for entry in entries):,} images could not be used, and the settings allow to go on "
        "without them. Every step counts its own; its manifest lists all of them"
    )
    lead += f", the first {LEFT_OUT_ROWS} stand here." if len(entries) > LEFT_OUT_ROWS else "."
    return page_section("left-out", "Left out", lead, html_table("Left out", columns, rows)) if rows else ""


def _settings(settings_yaml: str) -> str:
    if not settings_yaml.strip():
        return ""
    lead = "The settings of the run, with every default filled in."
    details = f"<details><summary>Show settings</summary><pre>{html_text(settings_yaml)}</pre></details>"
    return page_section("settings", "Settings", lead, details)
