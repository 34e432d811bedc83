"""The interface of all targets: a corpus, a way to change it, and a reader."""

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

Corpus = Mapping[str, bytes]
"""Whole inputs by name."""
Mutator = Callable[[bytes, Random, Corpus], bytes]
"""Changes an input; the corpus is there to splice from."""

_BREAKING = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories that end a line or steer a terminal."""
_LONGEST_COMPLAINT = 5000
_LONGEST_INPUT = 2 << 20
OUT_OF_MEMORY = "more memory than there is"
"""What readers say of an input whose memory could not be had. Within the limit of a run that is a failure."""


class BadComplaintError(Exception):
    """A reader complained in a way that no line of a log can hold, or over the memory that it had used up."""


@dataclass(frozen=True)
class Target:
    """A reader with its inputs.

    Attributes:
        corpus: makes whole inputs, once for a run.
        mutators: how inputs are changed, each with its weight.
        read: reads one input, with an empty folder to put files into; returns the complaints of a reader that gives
            complaints beside data. It may raise a UserError.
    """

    corpus: Callable[[], Corpus]
    mutators: Mapping[Mutator, int]
    read: Callable[[bytes, Path], Iterable[str]]

    def make(self, rng: Random, corpus: Corpus) -> bytes:
        """Return an input: one of the corpus, changed one to three times."""
        data = corpus[rng.choice(sorted(corpus))]
        changes = rng.choices(list(self.mutators), list(self.mutators.values()), k=rng.choice((1, 1, 1, 2, 3)))
        for change in changes:
            data = change(data, rng, corpus)[:_LONGEST_INPUT]
        return data


def check_complaint(text: str) -> None:
    """Refuse a complaint that is not one printable line of reasonable length.

    Raises:
        BadComplaintError: it is not, or it is about used up memory.
    """
    if OUT_OF_MEMORY in text:
        raise BadComplaintError(text)
    odd = next((c for c in text if unicodedata.category(c) in _BREAKING), None)
    if odd is not None or len(text) > _LONGEST_COMPLAINT or not text.strip():
        raise BadComplaintError(f"{len(text)} characters with {odd!r}: {text[:300]!r}")
