"""Data has types: the number of dictionaries whose values have none does not grow."""

import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "dpt_ray"
UNTYPED = re.compile(r"dict\[str, Any\]")
MOST = 36
"""Lines with such a dictionary: arguments of other libraries, settings before they are checked, rows of sidecars. Data
of our own is a frozen dataclass or a TypedDict; a JSON value of unknown form is `Json`."""


def untyped_lines(source: str) -> list[str]:
    """Return the lines of a source that name such a dictionary."""
    return [line for line in source.splitlines() if UNTYPED.search(line)]


def test_dictionaries_without_types_do_not_grow_in_number():
    found = {path: untyped_lines(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
    lines = [f"{path.relative_to(PACKAGE)}: {line.strip()}" for path, named in found.items() for line in named]
    assert 0 < len(lines) <= MOST, "\n".join(lines)


def test_every_line_counts_once():
    assert untyped_lines("x: dict[str, Any] | list[dict[str, Any]]\ny: dict[str, int]\n") == [
        "x: dict[str, Any] | list[dict[str, Any]]"
    ]
