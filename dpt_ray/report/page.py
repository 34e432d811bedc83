"""The run report as one HTML file that needs no network and no scripts."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from string import Template
from typing import TYPE_CHECKING

from dpt_ray.report.content import (
    ClassAudit,
    Curve,
    Figure,
    LeftOut,
    Overlap,
    Report,
    SampleGrid,
    is_known,
    most_changed,
    worst_first,
)
from dpt_ray.report.figures import Panel, accuracy_panel, curve_panels, has_nonfinite, reliability_panel
from dpt_ray.report.grid import grid_png
from dpt_ray.tables import MISSING, format_number, format_seconds, format_share
from dpt_ray.text import html_text

if TYPE_CHECKING:
    from dpt_ray.core.metrics.calibration import ReliabilityBin

MAX_GRID_ROWS = 20
MAX_GRID_COLUMNS = 10
MAX_OPEN_CLASSES = 20
LEFT_OUT_ROWS = 100

_STYLE = """
:root { color-scheme: light dark; --page: #fbfbf9; --card: #fff; --text: #1d2329; --muted: #59636e; --line: #d3d7d2;
  --series-1: #1f5fa8; --series-2: #b3500b; --series-3: #2f7a4f; --series-4: #7d3fa0; --note: #fdf4e3; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1c2024; --text: #e4e7ea; --muted: #9da8b3;
  --line: #343b42; --series-1: #78aeea; --series-2: #eda35f; --series-3: #79c99a; --series-4: #c79be6;
  --note: #2b2519; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); -webkit-text-size-adjust: 100%;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 3rem 0 .25rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; }
p { margin: 0 0 1rem; max-width: 46rem; }
.muted, section > p, figcaption { color: var(--muted); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 12px; margin: 1.8rem 0 0; }
.cards > div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px; }
.cards dt { color: var(--muted); font-size: .875rem; }
.cards dd { margin: 0; font-size: .8125rem; color: var(--muted); line-height: 1.4; }
.cards .value { font-size: 1.5rem; line-height: 1.5; color: var(--text); font-variant-numeric: tabular-nums; }
.notes { margin: 1.4rem 0 0; padding: 12px 16px 12px 34px; background: var(--note); border-radius: 8px;
  border-left: 4px solid var(--series-2); }
figure { margin: 0; }
figcaption { font-size: .875rem; margin-top: .5rem; }
.samples { display: grid; grid-template-columns: fit-content(min(30%, 11rem)) auto;
  column-gap: 12px; justify-content: start; }
.samples ol { list-style: none; margin: 0; padding: 0; display: grid; grid-auto-rows: minmax(0, 1fr); min-width: 0; }
.samples li { display: flex; align-items: center; min-width: 0; font-size: .8125rem; line-height: 1.1; }
.samples li span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.samples img { display: block; width: 100%; height: auto; image-rendering: pixelated; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); gap: 8px 24px; }
svg { display: block; width: 100%; height: auto; }
.panels h3 { margin: 1rem 0 .2rem; }
.comparison { max-width: 640px; margin-bottom: 1.6rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; line-height: 1.4; }
th, td { text-align: left; vertical-align: top; padding: 7px 18px 7px 0; border-bottom: 1px solid var(--line); }
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--muted); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 600; }
.name { min-width: 7rem; max-width: 22rem; overflow-wrap: anywhere; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.text { min-width: 13rem; }
code, pre { font: .8125rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { overflow-wrap: anywhere; color: var(--muted); }
pre { overflow-x: auto; padding: 14px; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
details { margin-top: 1rem; }
summary { cursor: pointer; color: var(--series-1); }
@media (max-width: 600px) { main { padding: 24px 16px 48px; } h1 { font-size: 1.5rem; }
  .cards { grid-template-columns: repeat(2, minmax(0, 1fr)); } .cards .value { font-size: 1.4rem; } }
"""

# The policy forbids every request and script, so even a fault in escaping could load or run nothing.
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")


def render(report: Report) -> str:
    """Return the whole page; equal reports give equal text. Sections that have nothing to say are left out."""
    sections = (
        _header(report),
        _cards(report.headline),
        _notes(report.notes),
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


def document(title: str, body: str) -> str:
    """Return a whole page from its title, as text, and its body, as HTML."""
    return _PAGE.substitute(title=html_text(title), style=_STYLE, body=body)


def _header(report: Report) -> str:
    facts = [f'<time datetime="{html_text(report.created)}">{html_text(_date(report.created))}</time>']
    if report.classes:
        facts.append(f"{len(report.classes):,} classes")
        facts.append(f"{sum(audit.labelled for audit in report.classes):,} labelled images")
    if report.steps:
        facts.append(f"{len(report.steps)} steps")
    return f'<header><h1>{html_text(report.title)}</h1><p class="muted">{" &middot; ".join(facts)}</p></header>'


def _date(created: str) -> str:
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return created
    moment = moment.astimezone(UTC) if moment.tzinfo else moment
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _cards(figures: Sequence[Figure]) -> str:
    cards = "".join(
        f'<div><dt>{html_text(figure.label)}</dt><dd class="value">{html_text(str(figure.value))}</dd>'
        f"<dd>{html_text(figure.note)}</dd></div>"
        for figure in figures
    )
    return f'<dl class="cards">{cards}</dl>' if cards else ""


def _notes(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{html_text(note)}</li>" for note in notes)
    return f'<ul class="notes" role="note" aria-label="Notes">{items}</ul>' if items else ""


def _samples(report: Report) -> str:
    if report.grid is None:
        return ""
    grid, total = report.grid.thin(MAX_GRID_ROWS, MAX_GRID_COLUMNS), len(report.grid.class_names)
    lead = "Made by the generator of stage 2 and not chosen by hand; each row is one class."
    if len(grid.class_names) < total:
        lead += f" {len(grid.class_names)} of {total:,} classes are shown, evenly spaced in their list."
    alt = f"Pseudo images of {len(grid.class_names)} classes, {grid.images.shape[1]} of each, one row a class"
    return _section("samples", "Pseudo images", lead, _grid(grid, "Classes from top to bottom", alt))


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
        f"<div><h3>{html_text(curve.title)}</h3>{_picture(panel)}</div>"
        for curve in curves
        for panel in curve_panels(curve)
    )
    if not panels:
        return ""
    lead = "How each training went: every value is the mean since the one before it, against images seen so far."
    if any(map(has_nonfinite, curves)):
        lead += " Values that are not finite are left out."
    return _section("training", "Training", lead, f'<div class="panels">{panels}</div>')


def _picture(panel: Panel) -> str:
    return panel.svg.replace("<svg", f'<svg role="img" aria-label="{html_text(panel.alt)}"', 1)


def _metrics(report: Report) -> str:
    rows = [
        (metric.name, f"{format_number(metric.value)} {metric.unit}".strip(), metric.meaning)
        for metric in report.metrics
    ]
    columns = (Column("Metric", "name"), Column("Value", "number"), Column("Meaning", "text"))
    lead = "Every number that the evaluation measured, and what it means."
    return _section("metrics", "Metrics", lead, _table("Metrics", columns, rows)) if rows else ""


def _reliability(bins: "Sequence[ReliabilityBin]") -> str:
    if not bins:
        return ""
    lead = "Whether the confidence of pseudo-labels means what it says, on unlabelled images whose class is known."
    caption = "Dots below the line are overconfident. A dot's area is its share of the images."
    figure = (
        f'<figure class="comparison">{_picture(reliability_panel(bins))}<figcaption>{caption}</figcaption></figure>'
    )
    return _section("reliability", "Confidence of pseudo-labels", lead, figure)


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
    return _section("classes", "Classes", lead, body)


def _comparison(classes: Sequence[ClassAudit]) -> str:
    shown = most_changed(classes, MAX_OPEN_CLASSES)
    if not shown:
        return ""
    every = len(shown) == len(classes)
    which = (
        "Sorted by gain" if every else f"The classes of highest and of lowest gain, {len(shown)} of {len(classes):,}"
    )
    caption = f"{which}: accuracy on held-out images before and after retraining."
    return f'<figure class="comparison">{_picture(accuracy_panel(shown))}<figcaption>{caption}</figcaption></figure>'


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
    return _table(label, columns, rows)


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
    return _section(
        "overlap", "Held-out images among the training images", lead, pictures + _table("Pairs", columns, rows)
    )


def _steps(report: Report) -> str:
    columns = (Column("Step", "name"), Column("Time", "number"), Column("Result", "text"), Column("Address", "code"))
    rows = [(step.title, format_seconds(step.seconds), step.summary, step.address) for step in report.steps]
    lead = (
        "What the run is made of: an address names an artifact by everything that went into it, "
        "so a step whose address already exists is reused, and its time is that of its making."
    )
    return _section("steps", "Steps", lead, _table("Steps", columns, rows)) if rows else ""


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
    return _section("left-out", "Left out", lead, _table("Left out", columns, rows)) if rows else ""


def _settings(settings_yaml: str) -> str:
    if not settings_yaml.strip():
        return ""
    lead = "The settings of the run, with every default filled in."
    details = f"<details><summary>Show settings</summary><pre>{html_text(settings_yaml)}</pre></details>"
    return _section("settings", "Settings", lead, details)


@dataclass(frozen=True)
class Column:
    """A table column: its heading, and how its cells are set (name, number, text or code)."""

    heading: str
    kind: str


def _table(label: str, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> str:
    """Return a table that scrolls sideways on a narrow screen; the first cell of a row is its heading."""
    head = "".join(f'<th scope="col" class="{column.kind}">{html_text(column.heading)}</th>' for column in columns)
    body = "\n".join(f"<tr>{''.join(map(_cell, columns, row))}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">'
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(column: Column, text: str) -> str:
    content = html_text(text) or MISSING
    if column.kind == "name":
        return f'<th scope="row" class="name">{content}</th>'
    return f'<td class="{column.kind}">{f"<code>{content}</code>" if column.kind == "code" else content}</td>'


def _section(anchor: str, title: str, lead: str, body: str) -> str:
    return f'<section id="{anchor}"><h2>{title}</h2><p>{lead}</p>\n{body}</section>'
