"""The page of a search: one HTML file that needs no network and no scripts."""

import math
from collections.abc import Sequence

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
from dpt_ray.report.search_content import PointFigures, SearchReport, Spread
from dpt_ray.report.search_figures import setting_panels
from dpt_ray.tables import MISSING, format_number, format_seconds, format_share
from dpt_ray.text import html_text

COLUMNS = (
    ("stage1_accuracy", "Stage 1"),
    ("stage3_accuracy", "Stage 3"),
    ("gain", "Gain (points)"),
    ("frechet_distance", "Frechet distance"),
    ("pseudo_image_agreement", "Agreement"),
    ("pseudo_label_accuracy", "Pseudo-labels"),
)


def render_search(report: SearchReport) -> str:
    """Return the whole page; equal reports give equal text."""
    created = f'<time datetime="{html_text(report.created)}">{html_text(format_date(report.created))}</time>'
    header = f'<header><h1>{html_text(report.title)}</h1><p class="muted">{created}</p></header>'
    sections = (
        header,
        figure_cards(report.headline),
        note_list(report.notes),
        _curves(report),
        _points(report),
        _sharing(report),
        _endings(report),
        _yaml("best", "Best settings", "A configuration for dpt run, with every default.", report.best_yaml),
        _yaml("search", "The search", "The tune file's settings.", report.tune_yaml),
    )
    return document(report.title, "\n".join(section for section in sections if section))


def varied(points: Sequence[PointFigures]) -> list[str]:
    """Return the settings of which there are several values."""
    names = list(points[0].point) if points else []
    return [name for name in names if len({repr(point.point[name]) for point in points}) > 1]


def format_spread(figure: str, spread: Spread | None) -> str:
    """Return mean ± standard deviation, accuracies in per cent and gains in points."""
    if spread is None:
        return MISSING
    if figure == "frechet_distance":
        shown, deviation = format_number(spread.mean), format_number(spread.deviation)
    elif figure == "gain":
        shown, deviation = format_share(spread.mean, signed=True), f"{100 * spread.deviation:.1f}"
    else:
        shown, deviation = format_share(spread.mean), f"{100 * spread.deviation:.1f}"
    return shown if math.isnan(spread.deviation) else f"{shown} ± {deviation}"


def _curves(report: SearchReport) -> str:
    finished = [point for point in report.points if point.finished]
    panels = "".join(
        f"<div><h3>{html_text(heading)}</h3>{inline_picture(panel)}</div>"
        for setting in varied(finished)
        for heading, panel in setting_panels(finished, setting)
    )
    if not panels:
        return ""
    lead = (
        f"Means over seeds, with bars of one standard deviation. Accuracies are on {html_text(report.images)}. "
        "The Frechet distance, in stage 1's features, compares generators of one stage 1 only: 0 is equal."
    )
    return page_section("curves", "Curves", lead, f'<div class="panels">{panels}</div>')


def _points(report: SearchReport) -> str:
    names = list(report.points[0].point) if report.points else []
    shown = [(f, title) for f, title in COLUMNS if any(f in point.figures for point in report.points)]
    columns = [Column(name, "name" if number == 0 else "number") for number, name in enumerate(names)]
    columns += [Column(title, "number") for _, title in shown] + [Column("Finished seeds", "number")]
    rows = [
        (
            *(
                format_number(v) if isinstance(v, float) else "none" if v is None else str(v)
                for v in point.point.values()
            ),
            *(format_spread(figure, point.figures.get(figure)) for figure, _ in shown),
            f"{point.finished} of {point.of}",
        )
        for point in report.points
    ]
    metric = report.metric.replace("_", " ")
    lead = f"Best first by {metric}; mean ± standard deviation over seeds, on {html_text(report.images)}."
    return page_section("points", "Points", lead, html_table("Points", columns, rows)) if rows else ""


def _sharing(report: SearchReport) -> str:
    columns = [Column("Step", "name")]
    columns += [Column(h, "number") for h in ("Trials", "Made", "Time of making", "Saved by sharing")]
    rows = [
        (s.title, f"{s.used:,}", f"{s.made:,}", format_seconds(s.seconds), format_seconds(s.saved))
        for s in report.sharing
    ]
    lead = (
        "How many trials needed an artifact of each step, and how many were made. Times are those of making as the "
        "artifacts' manifests have them, with other trials beside them on the same machine."
    )
    return page_section("sharing", "What was shared", lead, html_table("Shared", columns, rows)) if rows else ""


def _endings(report: SearchReport) -> str:
    columns = (Column("Trial", "name"), Column("End", "text"), Column("Cause", "text"))
    rows = [(ending.title, ending.state, ending.cause) for ending in report.endings]
    lead = "Trials that did not finish. Failed ones are tried again when the same command is run."
    return page_section("endings", "Not finished", lead, html_table("Not finished", columns, rows)) if rows else ""


def _yaml(anchor: str, title: str, lead: str, text: str) -> str:
    if not text.strip():
        return ""
    return page_section(anchor, title, lead, f"<details><summary>Show</summary><pre>{html_text(text)}</pre></details>")
