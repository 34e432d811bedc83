"""Read text files of the user: tables, lists of classes, lists of images.

They are read in ranges and yielded line by line, so that memory does not grow with the file.
"""

import codecs
import io
from collections.abc import Iterator

from dpt_ray.data.importing.other_formats import FIRST_BYTES, recognise
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

MAX_LINE = 1 << 20
"""Maximum number of characters of a line."""
MAX_BLANK_LINES = 1_000_000
"""Maximum number of lines without text, which cost as much to read as others."""
_RANGE_BYTES = 4 << 20
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, since its mark begins with that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAVE = "save it as UTF-8 text"


def read_lines(url: str, kind: str) -> Iterator[str]:
    r"""Yield the lines of a text file, each with its line break (`\n`, `\r\n` or `\r`), without a byte-order mark.

    Args:
        url: URL of the file: UTF-8, or UTF-16 or UTF-32 with a byte-order mark.
        kind: noun for the expected file in messages, such as `CSV table`.

    Raises:
        UserError: the file does not exist, is not a regular file, is not text, has a line longer than `MAX_LINE`, or
            more blank lines than `MAX_BLANK_LINES`.
    """
    number, blank, rest = 0, 0, ""
    for text in _decoded(url, kind):
        complete, rest = _split(rest + text)
        for line in complete:
            number += 1
            _check_line(line, number, url, kind)
            blank += line.isspace()
            if blank > MAX_BLANK_LINES:
                what = f"is not a readable {kind} (it has more than {MAX_BLANK_LINES:,} blank lines)"
                raise UserError(what, where=url, fix="remove the blank lines")
            yield line
        _check_line(rest, number + 1, url, kind)
    if rest:
        yield rest


def _decoded(url: str, kind: str) -> Iterator[str]:
    """Yield the decoded text of a file, range by range."""
    decoder, encoding, lines, place, last = None, "", 0, 0, False
    while not last:
        data = stores.read_range(url, place, place + _RANGE_BYTES)
        last = len(data) < _RANGE_BYTES
        place += len(data)
        if decoder is None:
            found = recognise(data[:FIRST_BYTES])
            if found is not None:
                raise UserError(f"is not a readable {kind} but {found[0]}", where=url, fix=found[1])
            mark, encoding = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", "utf-8"))
            decoder, data = codecs.getincrementaldecoder(encoding)(), data[len(mark) :]
        try:
            text = decoder.decode(data, final=last)
        except UnicodeDecodeError as error:
            line = lines + 1 + error.object[: error.start].count("\n".encode(encoding))
            name = encoding.upper().removesuffix("-LE").removesuffix("-BE")
            what = f"is not a readable {kind} (line {line} is not {name} text)"
            raise UserError(what, where=url, fix=_SAVE) from None
        lines += text.count("\n")
        yield text


def _split(text: str) -> tuple[list[str], str]:
    r"""Return the complete lines of a text and the beginning of the next line.

    A last line that ends in `\r` counts as incomplete, since `\n` may follow.
    """
    lines = list(io.StringIO(text, newline=""))
    rest = lines.pop() if lines and not lines[-1].endswith("\n") else ""
    return lines, rest


def _check_line(line: str, number: int, url: str, kind: str) -> None:
    if len(line) > MAX_LINE:
        raise UserError(
            f"is not a readable {kind} (line {number} is longer than {MAX_LINE:,} characters)",
            where=url,
            fix="end each line with a line break",
        )
    if "\0" in line:
        raise UserError(f"is not a readable {kind} (line {number} holds a NUL character)", where=url, fix=_SAVE)
