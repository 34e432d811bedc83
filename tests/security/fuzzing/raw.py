"""Changes of any bytes: flipped bits, lost and added parts, numbers blown up."""

from collections.abc import Callable
from random import Random

from fuzzing.target import Corpus, Mutator

_NUMBERS = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
            0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF)  # fmt: skip
_MOST_ADDED = 1 << 16
_HEADER_BYTES = 64


def place(data: bytes, rng: Random) -> int:
    """Return a place in the data; half of the time near its beginning, where most formats say how large things are."""
    return rng.randrange(min(len(data), _HEADER_BYTES) if rng.random() < 0.5 else len(data)) if data else 0


def flip_bits(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Flip a few bits."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if data else 0):
        changed[place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def set_bytes(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Replace a part by as many other bytes: random, or all the same."""
    start = place(data, rng)
    length = min(len(data) - start, rng.choice((1, 1, 2, 4, 16, 200)))
    return data[:start] + rng.choice((rng.randbytes(length), bytes(length), b"\xff" * length)) + data[start + length :]


def set_number(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Write a number at the edge of a type over a place, in either order of bytes."""
    start, width = place(data, rng), rng.choice((1, 2, 2, 4, 4, 8))
    value = rng.choice((*_NUMBERS, len(data), rng.randrange(1 << 32))) % (1 << 8 * width)
    return data[:start] + value.to_bytes(width, rng.choice(("little", "big"))) + data[start + width :]


def truncate(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Lose the end."""
    return data[: rng.randrange(len(data) + 1)]


def cut_out(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Lose a part in the middle."""
    start = place(data, rng)
    return data[:start] + data[start + rng.choice((1, 2, 4, 100, len(data) // 4 + 1)) :]


def insert(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Add bytes somewhere."""
    start = place(data, rng)
    return data[:start] + rng.randbytes(rng.choice((1, 2, 4, 100, 2000))) + data[start:]


def repeat(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Repeat a part, many times maybe."""
    start = place(data, rng)
    part = data[start : start + rng.choice((1, 4, 16, 100, 1000))]
    times = rng.choice((1, 1, 10, 1000))
    return data[:start] + (part * times)[:_MOST_ADDED] + data[start:]


def splice(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Go on with the end of another input."""
    other = corpus[rng.choice(sorted(corpus))]
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


RAW: dict[Mutator, int] = {
    flip_bits: 3, set_bytes: 2, set_number: 3, truncate: 1, cut_out: 1, insert: 1, repeat: 1, splice: 1,
}  # fmt: skip
"""All of them, with their weights."""


def change_raw(data: bytes, rng: Random, corpus: Corpus) -> bytes:
    """Apply one of `RAW`."""
    (change,) = rng.choices(list(RAW), list(RAW.values()))
    return change(data, rng, corpus)


def parts_changed(
    split: Callable[[bytes], list[bytes]], join: Callable[[list[bytes]], bytes], change: Mutator = change_raw
) -> Mutator:
    """Return a mutator that changes, repeats, drops or swaps a part of a format, or takes one from another input.

    Args:
        split: gives the parts of an input; whatever it raises at a damaged one leaves that as it is.
        join: puts parts together again, with right lengths and checksums.
        change: changes the bytes of a part.
    """

    def mutate(data: bytes, rng: Random, corpus: Corpus) -> bytes:
        try:
            parts = split(data)
        except (ValueError, LookupError, OverflowError):
            return data
        if not parts:
            return data
        chosen = rng.randrange(len(parts))
        kind = rng.choice(("change",) * 6 + ("repeat", "drop", "swap", "other"))
        if kind == "change":
            parts[chosen] = change(parts[chosen], rng, {"own": parts[chosen]})
        elif kind == "repeat":
            parts[chosen:chosen] = [parts[chosen]] * rng.choice((1, 1, 3, 200))
        elif kind == "drop":
            del parts[chosen]
        elif kind == "swap":
            second = rng.randrange(len(parts))
            parts[chosen], parts[second] = parts[second], parts[chosen]
        else:
            try:
                others = split(corpus[rng.choice(sorted(corpus))])
            except (ValueError, LookupError, OverflowError):
                return data
            parts[chosen] = rng.choice(others) if others else b""
        try:
            return join(parts)
        except (ValueError, OverflowError):  # a part has outgrown the field of its length
            return data

    return mutate
