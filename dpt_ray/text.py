"""Text for people: escaped, so that data cannot control a terminal, log, report or spreadsheet; broken into lines."""

import re
import textwrap

_HANGING = 4
"""Columns by which a continued line is indented."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of text that spreadsheets evaluate as a formula."""


def printable(text: str) -> str:
    """Return text with backslash escapes for everything that is not printable, so that it is UTF-8 and one line.

    Escaped are control characters (escape sequences, NUL, line breaks), invisible and direction-changing characters,
    and surrogates, by which Python represents bytes of a file name that are not UTF-8.
    """
    text = text.encode(errors="backslashreplace").decode()
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """Return text with each of its lines `printable`."""
    return "\n".join(map(printable, text.split("\n")))


def shortened(text: str, longest: int = 200) -> str:
    """Return a text of at most `longest` characters, followed by three dots if it was cut."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def csv_cell(value: object) -> object:
    """Return a value for a cell of a CSV file. Text that a spreadsheet would evaluate gets a leading apostrophe."""
    if not isinstance(value, str):
        return value
    value = printable(value)
    return f"'{value}" if value.startswith(_FORMULA) else value


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "\N{EN DASH}": "--",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
}


def latex_text(text: str) -> str:
    """Return text for LaTeX, in which no character is a command."""
    return "".join(_LATEX.get(character, character) for character in printable(text))


def one_line(error: Exception) -> str:
    """Return the first 200 characters of an error's message as one printable line; the error's type if it is empty."""
    return printable(" ".join(str(error).split())[:200]) or type(error).__name__


def wrap_lines(text: str, width: int) -> str:
    """Break lines between words so that they fit a terminal.

    What follows the break stands below the last column of a table's row, otherwise four columns to the right. Words,
    such as paths, are never broken.

    Args:
        text: any number of lines.
        width: columns of the terminal.
    """
    return "\n".join(_wrapped(line, width) for line in text.split("\n"))


def _wrapped(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    columns = [found.end() for found in re.finditer(r"\S {2,}(?=\S)", line)]
    indent = columns[-1] if columns and columns[-1] < 0.7 * width else _HANGING
    parts = textwrap.wrap(
        line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False, tabsize=4
    )
    return "\n".join(parts)
