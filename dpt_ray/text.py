"""Text from data, shown to people: no terminal, log, report or spreadsheet may obey what it holds."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


def printable(text: str) -> str:
    """Return text that can be written as UTF-8 and stays on its line.

    Control characters (escape sequences, NUL, newlines), invisible and direction-changing ones, and bytes of a name
    that are not UTF-8 become backslash escapes.
    """
    text = text.encode(errors="backslashreplace").decode()
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """Return `printable` text that keeps its own line breaks."""
    return "\n".join(map(printable, text.split("\n")))


def shortened(text: str, longest: int = 200) -> str:
    """Return the beginning of a text of any length, with three dots where something is missing."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def csv_cell(value: object) -> object:
    """Return a value for a cell of a CSV file; text that a spreadsheet would compute gets an apostrophe before it."""
    if not isinstance(value, str):
        return value
    value = printable(value)
    return f"'{value}" if value.startswith(_FORMULA) else value


def one_line(error: Exception) -> str:
    """Return an error's beginning on one line of printable text, at most 200 characters of it."""
    return printable(" ".join(str(error).split())[:200]) or type(error).__name__
