"""Changes of texts, line by line and word by word."""

from random import Random

from fuzzing.raw import change_raw
from fuzzing.target import Corpus, Mutator

ODD = (
    b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x1b[2J", b"\r", b"\r\n",
    b"\n", b"\x0b", b"\x0c", b"\x1c", b"\x85", "\u0085".encode(), "\u2028".encode(), "\u202e".encode(), b"\t", b'"',
    b"'", b'""', b"\\", b",", b";", b"|", b"#", b"..", b"/", b"%00", b"%s", b"{}", b"=1+1", "e\u0301".encode(),
    "\u0663".encode(), "\u00b2".encode(), "\U0001f600".encode(), b"file://", b"s3://", b"*", b"[", b"?",
)  # fmt: skip
"""Bytes that texts stumble over."""
NUMBERS = (
    b"0", b"-1", b"-0", b"1e5", b"1e400", b"1e999999999", b"-1e-999999999", b"nan", b"NaN", b"inf", b"-Infinity",
    b"1_0", b"0x10", b"010", b"0o7", b"1,000", b"1.", b".5", b"+1", b"9" * 20, b"9" * 400, b"9" * 5000, b"999999",
    b"1000000", b"18446744073709551616", b"true", b"null", b"~", b"",
)  # fmt: skip
"""Numbers, and what may be taken for one."""


def change_line(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Repeat, drop, swap, join or stretch lines."""
    lines = data.split(b"\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(6)
    if kind == 0:
        lines[first:first] = [lines[first][:1000]] * rng.choice((1, 1, 20, 5000))
    elif kind == 1:
        del lines[first]
    elif kind == 2:
        lines[first], lines[second] = lines[second], lines[first]
    elif kind == 3:
        lines[first] = lines[first] + lines[second]
    elif kind == 4:
        lines[first] = (lines[first][:100] or b"x") * rng.choice((2, 300, 30_000))
    else:
        return rng.choice((b"\r", b"\r\n", "\u2028".encode(), b"\0")).join(lines)
    return b"\n".join(lines)


def insert_odd(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Put odd bytes in."""
    for _ in range(rng.choice((1, 1, 2, 5))):
        start = rng.randrange(len(data) + 1)
        data = data[:start] + rng.choice(ODD) * rng.choice((1, 1, 1, 3, 1000)) + data[start:]
    return data


def change_word(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Replace a word by a number, by odd bytes, or by another word."""
    words = _words(data)
    if not words:
        return data
    start, stop = rng.choice(words)
    other, other_stop = rng.choice(words)
    new = rng.choice((rng.choice(NUMBERS), rng.choice(NUMBERS), rng.choice(ODD), data[other:other_stop]))
    return data[:start] + new + data[stop:]


def _words(data: bytes) -> list[tuple[int, int]]:
    """Return where runs of letters, digits and a few signs begin and end."""
    found, start = [], None
    for number, byte in enumerate(data + b" "):
        part_of_word = chr(byte).isalnum() or byte in b"._-/" or byte > 127
        if part_of_word and start is None:
            start = number
        elif not part_of_word and start is not None:
            found.append((start, number))
            start = None
    return found


def other_encoding(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Write a text in another encoding, as it is meant or as another one, with and without its mark."""
    text = data.decode(errors="replace")
    return text.encode(rng.choice(("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp037")), errors="replace")


def end_on_boundary(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Fill a text up so that a character lies across the place where files are read in parts."""
    part = rng.choice((512, 4096, 65536))
    filled = (data + b"\n") * (part // (len(data) + 1) + 1)
    return filled[: part - 1] + rng.choice(("é".encode(), b"\r\n", "\u2028".encode())) + data


TEXT: dict[Mutator, int] = {
    change_line: 3, insert_odd: 3, change_word: 4, other_encoding: 1, end_on_boundary: 1, change_raw: 2,
}  # fmt: skip
"""All of them, with their weights."""
