"""The table of crashed jobs: a line of JSON for each, and their rows."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from crashing import Outcome

Row = Mapping[str, Any]
"""The outcome of a draw as JSON."""

HEAD = ("seed", "place", "killed", "exit statuses", "end after s", "work lost s", "in all s", "equal")


def record(outcome: Outcome, place: str, problems: Iterable[str], differences: Iterable[str]) -> Row:
    """Return the row of an outcome.

    Args:
        outcome: the outcome.
        place: where the results were stored, in a word.
        problems: what the job did wrong.
        differences: artifacts that differ from those of an undisturbed run.
    """
    drawn = outcome.drawn
    return {
        "seed": drawn.seed,
        "place": place,
        "killed": drawn.title,
        "training": drawn.in_training,
        "statuses": outcome.statuses,
        "end_seconds": round(outcome.seconds_to_end, 1),
        "lost_seconds": round(outcome.lost_seconds, 2),
        "seconds": round(outcome.seconds),
        "equal": not list(differences),
        "problems": list(problems),
    }


def read_table(file: Path) -> list[Row]:
    """Return the rows of a table, by place and seed; the newest one of each draw."""
    lines = file.read_text().splitlines() if file.exists() else []
    rows = {(row["place"], row["seed"]): row for row in map(json.loads, lines)}
    return [rows[key] for key in sorted(rows)]


def append_row(file: Path, row: Row) -> None:
    """Add a row to a table. Several processes may do so at a time."""
    with file.open("a") as table:
        table.write(json.dumps(row) + "\n")


def cells(row: Row) -> tuple[str, ...]:
    """Return the cells of a row."""
    return (
        str(row["seed"]),
        row["place"],
        row["killed"],
        " ".join(map(str, row["statuses"])),
        f"{row['end_seconds']:.1f}",
        f"{row['lost_seconds']:.2f}" if row["training"] else "-",
        str(row["seconds"]),
        "yes" if row["equal"] and not row["problems"] else "NO",
    )


def summary(rows: Iterable[Row]) -> str:
    """Return in a line how many draws came home, and the work that trainings with a checkpoint lost."""
    rows = list(rows)
    lost = [row["lost_seconds"] for row in rows if row["training"] and " after 0 files" not in row["killed"]]
    home = sum(row["equal"] and not row["problems"] for row in rows)
    what = f"{len(lost)} trainings with a checkpoint lost"
    lost_text = f"{median(lost or [0]):.2f} s in the median, {max(lost or [0]):.2f} s at most"
    return f"{home} of {len(rows)} came home. {what} {lost_text}."


def markdown(rows: Iterable[Row]) -> str:
    """Return a table as Markdown."""
    lines = [HEAD, ("---",) * len(HEAD), *map(cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
