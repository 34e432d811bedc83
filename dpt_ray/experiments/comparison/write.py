"""Writes a comparison of runs: a page, Markdown, CSV and LaTeX, and the table for the terminal."""

import datetime
from collections.abc import Sequence

from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.experiments.comparison.compared_runs import ComparedRun
from dpt_ray.experiments.comparison.rows import compare_points, compare_rows
from dpt_ray.report.compare_content import ComparedRow, CompareReport
from dpt_ray.tables import text_table

FILE = "comparison"


def write_comparison(runs: Sequence[ComparedRun], folder: str) -> str:
    """Write all files; return the table and their places for the terminal.

    Args:
        runs: those to compare.
        folder: URL of the folder.

    Raises:
        UserError: a run is given twice, or the folder cannot be written.
    """
    from dpt_ray.report import compare_page  # draws: slow to import

    titles = [run.title for run in runs]
    if repeated := {title for title in titles if titles.count(title) > 1}:
        raise UserError(f"{min(repeated)} is given twice", fix="name every run once")
    rows = compare_rows(runs)
    report = CompareReport(
        title=f"Comparison of {len(runs)} run{'s' if len(runs) > 1 else ''}",
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        rows=rows,
        points=compare_points(runs),
        notes=_notes(rows),
    )
    contents = {
        "html": compare_page.render_comparison(report),
        "md": compare_page.comparison_markdown(report),
        "csv": compare_page.comparison_csv(report),
        "tex": compare_page.comparison_latex(report),
    }
    places = {kind: stores.join(folder, f"{FILE}.{kind}") for kind in contents}
    for kind, content in contents.items():
        stores.write_bytes(places[kind], content.encode())
    table = text_table(compare_page.results_cells(rows), header=True)
    return "\n".join([table, "", *report.notes, *(f"{kind}: {place}" for kind, place in places.items())])


def _notes(rows: Sequence[ComparedRow]) -> list[str]:
    notes = []
    if any("frechet_distance" in row.figures for row in rows):
        notes.append(
            "The Fréchet distance is in the features of each run's own stage 1. It orders runs with one stage 1 only, "
            "and it is no FID."
        )
    if single := [row.name for row in rows if row.seeds < 2]:
        notes.append(f"Rows with one seed have no interval over seeds: {', '.join(single)}.")
    if repeated := [row.name for row in rows if row.seeds < len(row.runs)]:
        notes.append(f"Rows that hold a seed several times have intervals that are too narrow: {', '.join(repeated)}.")
    return notes
