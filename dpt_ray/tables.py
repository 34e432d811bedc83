"""Format numbers and tables for people."""

import math
import unicodedata
from collections.abc import Sequence

MISSING = "\N{EN DASH}"
_NUMERIC = frozenset("0123456789.,+-%e ")


def format_number(value: float | None) -> str:
    """Format a number with four significant digits, whole numbers in full: 1,797, 0.9431, 2.50e-05; a dash for None."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("infinite" if value > 0 else "-infinite")
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if not 1e-3 <= abs(value) < 1e15:
        return f"{value:.2e}"
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def format_share(value: float | None, *, signed: bool = False) -> str:
    """Format a share in [0, 1] as per cent with one decimal; a dash for None and non-finite values.

    Args:
        value: the share, or the difference of two shares.
        signed: write the sign instead of the unit, for a difference in percentage points.
    """
    if value is None or not math.isfinite(value):
        return MISSING
    # A small negative value rounds to -0.0; adding 0.0 makes it 0.0.
    per_cent = round(100 * value, 1) + 0.0
    return f"{per_cent:+.1f}" if signed else f"{per_cent:.1f}%"


def format_bytes(count: float) -> str:
    """Format a number of bytes in the largest binary unit, up to TiB, in which it is at least 1."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def format_money(amount: float | None) -> str:
    """Format an amount of money with two decimals, below 1 with two significant digits; a dash for None."""
    if amount is None or not math.isfinite(amount):
        return MISSING
    return f"{amount:,.2f}" if amount >= 0.995 or amount == 0 else f"{float(f'{amount:.2g}'):.10f}".rstrip("0")


def format_seconds(seconds: float | None) -> str:
    """Format a duration in its two largest units; a dash for None."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"


def text_table(rows: Sequence[Sequence[str]], *, header: bool = False) -> str:
    """Align rows in columns for a terminal. Columns of numbers are right-aligned.

    Args:
        rows: the cells of each row. Shorter rows are padded with empty cells. Line breaks and control characters become
            spaces, so that a class name cannot move the cursor.
        header: whether the first row holds column names, which get a rule below.

    Returns:
        Lines without trailing spaces, joined by line breaks; empty if there are no rows.
    """
    width = max((len(row) for row in rows), default=0)
    table = [[_one_line(cell) for cell in row] + [""] * (width - len(row)) for row in rows]
    columns = list(zip(*table, strict=True))
    widths = [max(map(_display_width, column)) for column in columns]
    to_right = [_is_numeric(column[1:] if header else column) for column in columns]
    lines = ["  ".join(map(_pad, row, widths, to_right)).rstrip() for row in table]
    if header and lines:
        lines.insert(1, "  ".join("-" * column_width for column_width in widths))
    return "\n".join(lines)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a Markdown table. The first row is the header."""
    header, *body = [f"| {' | '.join(map(_one_line, row))} |" for row in rows]
    return "\n".join([header, "|" + "---|" * len(rows[0]), *body])


def _one_line(cell: str) -> str:
    printable = "".join(character if character.isprintable() else " " for character in str(cell))
    return " ".join(printable.split())


def _display_width(text: str) -> int:
    shown = (character for character in text if not unicodedata.combining(character))
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in shown)


def _is_numeric(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell not in ("", MISSING, "NaN")]
    return bool(filled) and all(_NUMERIC.issuperset(cell) for cell in filled)


def _pad(cell: str, width: int, to_right: bool) -> str:
    spaces = " " * (width - _display_width(cell))
    return spaces + cell if to_right else cell + spaces


def duration(seconds: float) -> str:
    """Format a duration in seconds compactly: 42s, 3m10s, 2h05m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
