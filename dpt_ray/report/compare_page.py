"""A comparison of runs as a page, as Markdown, as CSV and as LaTeX."""

import csv
import io
import math
from collections.abc import Sequence

from dpt_ray.report.compare_content import FIGURES, ComparedRow, CompareReport, Estimate
from dpt_ray.report.page_templates import Column, Table, render_page
from dpt_ray.report.search_figures import setting_panels
from dpt_ray.tables import MISSING, format_number, format_share, markdown_table
from dpt_ray.text import csv_cell, latex_text

LABELS = "labels.per_class"
SHOWN_SETTINGS = 3
"""Differing settings that have columns in the table of results; with more, it has the rows' letters alone."""


def render_comparison(report: CompareReport) -> str:
    """Return the whole page; equal reports give equal text."""
    numeric = [name for name in _settings(report.rows) if _is_drawn(report, name)]
    return render_page(
        "compare.html.j2",
        report=report,
        results=_html_table("Results", results_cells(report.rows)),
        curves=[panel for setting in numeric for panel in setting_panels(report.points, setting)],
        settings=_html_table("Settings that differ", settings_cells(report.rows)),
        runs=_html_table("Runs", [["Row", "Runs"], *([row.name, "; ".join(row.runs)] for row in report.rows)]),
    )


def comparison_markdown(report: CompareReport) -> str:
    """Return title, notes and tables as Markdown; a bar within a cell is escaped."""
    tables = [table for table in (results_cells(report.rows), settings_cells(report.rows)) if len(table) > 1]
    texts = [markdown_table([[cell.replace("|", r"\|") for cell in row] for row in table]) for table in tables]
    return "\n\n".join([f"# {report.title}", *report.notes, *texts]) + "\n"


def comparison_csv(report: CompareReport) -> str:
    """Return a row for each configuration, with accuracies in [0, 1]; a bound that is not known is empty."""
    names = [name for name in _settings(report.rows) if name != LABELS]
    figures = _figures(report.rows)
    parts = ("mean", "low", "high")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "labels_per_class", *names, "seeds", *(f"{f}_{part}" for f in figures for part in parts)])
    for row in report.rows:
        found = [row.figures.get(figure) for figure in figures]
        values = [getattr(e, part) if e is not None else math.nan for e in found for part in parts]
        cells = [row.name, row.labels, *(row.settings[name] for name in names), row.seeds]
        writer.writerow([*map(csv_cell, cells), *("" if math.isnan(value) else f"{value:.6g}" for value in values)])
    return text.getvalue()


def comparison_latex(report: CompareReport) -> str:
    """Return the results as a table for LaTeX with the package booktabs."""
    header, *body = results_cells(report.rows)
    lines = [" & ".join(map(latex_text, row)) + r" \\" for row in (header, *body)]
    columns = "l" + "r" * (len(header) - 1)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def results_cells(rows: Sequence[ComparedRow]) -> list[list[str]]:
    """Return the table in the form of the paper's: a row for each configuration, the header first."""
    figures = _figures(rows)
    own = [name for name in _settings(rows) if name != LABELS]
    own = own if len(own) <= SHOWN_SETTINGS else []
    header = ["Row", "Labels a class", *own, "Seeds", *(FIGURES[figure] for figure in figures)]
    return [
        header,
        *(
            [
                row.name,
                row.labels,
                *(row.settings[name] for name in own),
                str(row.seeds),
                *(format_estimate(figure, row.figures.get(figure)) for figure in figures),
            ]
            for row in rows
        ),
    ]


def settings_cells(rows: Sequence[ComparedRow]) -> list[list[str]]:
    """Return the settings in which rows differ, a column for each row."""
    names = _settings(rows)
    return [
        ["Setting", *(row.name for row in rows)],
        *([name, *(row.settings[name] for row in rows)] for name in names),
    ]


def format_estimate(figure: str, estimate: Estimate | None) -> str:
    """Return a mean with its interval in brackets: accuracies in per cent, gains in points."""
    if estimate is None:
        return MISSING
    numbers = [estimate.mean, estimate.low, estimate.high]
    if figure == "frechet_distance":
        mean, low, high = map(format_number, numbers)
    elif figure == "gain":
        mean, low, high = (format_share(value, signed=True) for value in numbers)
    else:
        mean, low, high = map(format_share, numbers)
    return f"{mean} [{low}, {high}]" if estimate.has_interval else mean


def _settings(rows: Sequence[ComparedRow]) -> list[str]:
    return list(rows[0].settings) if rows else []


def _figures(rows: Sequence[ComparedRow]) -> list[str]:
    return [figure for figure in FIGURES if any(figure in row.figures for row in rows)]


def _is_drawn(report: CompareReport, setting: str) -> bool:
    """Whether a curve over the setting says something: all its values are numbers."""
    values = [point.point[setting] for point in report.points]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _html_table(label: str, cells: Sequence[Sequence[str]]) -> Table:
    header, *body = cells
    columns = [Column(heading, "name" if number == 0 else "text") for number, heading in enumerate(header)]
    if label == "Results":
        columns = [Column(heading, "name" if number == 0 else "number") for number, heading in enumerate(header)]
    return Table(label, columns, body)
