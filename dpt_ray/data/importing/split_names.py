"""Read the split of a data set from the name of a file or folder, such as `seg_train` or `Testing2017`.

The word alone proves nothing: `train`, `freight_train` and `test_tube` may be classes. Two names are splits of one data
set if they name different splits and are otherwise equal, as `seg_train` and `seg_test` are.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import NamedTuple

_SPELLINGS = {
    "train": ("train", "training", "trainings", "trains", "trn", "minitrain"),
    "test": ("test", "testing", "tests", "tst", "minitest"),
    "val": ("val", "valid", "validation", "validating", "validate", "minival"),
    "dev": ("dev", "devel", "development"),
    "eval": ("eval", "evaluation", "evaluate"),
    "extra": ("extra", "extras", "additional"),
    "unlabelled": ("unlabelled", "unlabeled", "unlabel", "unsupervised", "unsup"),
    "labelled": ("labelled", "labeled"),
    "held out": ("holdout", "heldout"),
    "train+val": ("trainval", "trainvalid", "trainvalidation"),
    "train+test": ("traintest",),
    "test+val": ("valtest", "testval"),
    "dev+test": ("testdev", "devtest"),
}
_SPLITS = {spelling: split for split, spellings in _SPELLINGS.items() for spelling in spellings}
_SHORT = {"tr": "train", "ts": "test", "te": "test", "vl": "val"}
"""Short forms, as in `imagesTr`. They count only beside a word of `_ITEMS` in the same name."""
_ITEMS = {
    "data", "dataset", "images", "image", "imgs", "img", "labels", "label", "pictures", "picture", "pics", "photos",
    "samples", "sample", "examples", "frames", "annotations", "masks",
}  # fmt: skip
_GENERIC = _ITEMS | {
    "set", "sets", "split", "splits", "subset", "part", "parts", "partition", "shard", "shards", "fold", "batch",
    "file", "files", "folder", "dir", "of", "the", "full", "all", "new", "final", "raw", "original", "orig",
    "cropped", "resized", "jpg", "jpeg", "jpegs", "png", "pngs", "parquet", "tar", "snappy",
}  # fmt: skip
"""Words that do not identify the data set of a split."""


def _alternatives(words: Iterable[str]) -> str:
    return "|".join(sorted(words, key=lambda word: (-len(word), word)))


_PADDING = rf"(?:{_alternatives(word for word in _GENERIC - {'dataset'} if len(word) > 2)}|\d)*"
# The padding matches each text in only one way ("dataset" is excluded because "data" and "set" are words). With several
# ways, backtracking could take exponential time.
_JOINED = re.compile(rf"{_PADDING}({_alternatives(_SPLITS)}){_PADDING}")
"""The word of a split between generic words without separators, as in `trainset`."""
_SHORT_JOINED = re.compile(rf"(?:{_alternatives(_ITEMS)})({_alternatives(_SHORT)})\d*")
_ENDING = re.compile(rf"(.{{2,}}?)({_alternatives(s for s in _SPLITS if len(s) > 2)})")
_NUMBER = re.compile(r"v?\d+(?:[kmp]|px)?|\d+x\d+|(?=[a-f]*\d)[0-9a-f]{6,}")
"""Versions, years, counters, sizes and checksums."""
_HUMPS = re.compile(
    r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)", re.ASCII
)
"""Positions at which a word begins within a name such as `TrainSet2017`."""
_HELD_OUT = re.compile(r"(?<![^\W_])(hold|held)[\W_]+out(?![^\W_])", re.IGNORECASE)
_UNLABELLED = re.compile(r"(?<![^\W_])un[\W_]+(labell?ed)(?![^\W_])", re.IGNORECASE)


class SplitName(NamedTuple):
    """The split that a name contains.

    Attributes:
        split: the split in its canonical spelling; several are joined by `+`.
        word: the word of the split as the name spells it.
        rest: the other words of the name, without generic words and numbers.
        certain: whether the split is a word of its own. It is not in `mnisttrain`, nor in `constrain`.
    """

    split: str
    word: str
    rest: tuple[str, ...]
    certain: bool = True


def read_split_name(name: str) -> SplitName | None:
    """Return the split that the name of a file or folder contains; None if it contains none."""
    name = unicodedata.normalize("NFKC", name)
    name = _UNLABELLED.sub(r"un\1", _HELD_OUT.sub(r"\1out", name))
    words = [word for chunk in re.findall(r"[^\W_]+", name) for word in _words(chunk)]
    if any(word in _ITEMS for word in words):
        words = [_SHORT.get(word, word) for word in words]
    found = [word for word in words if word in _SPLITS]
    rest = [word for word in words if word not in _SPLITS and word not in _GENERIC]
    if found:
        splits = {part for word in found for part in _SPLITS[word].split("+")}
        return SplitName("+".join(sorted(splits)), found[0], tuple(sorted(rest)))
    for number, word in enumerate(rest):
        if ending := _ENDING.fullmatch(word):
            others = [*rest[:number], ending[1], *rest[number + 1 :]]
            return SplitName(_SPLITS[ending[2]], ending[2], tuple(sorted(others)), certain=False)
    return None


def _words(chunk: str) -> list[str]:
    """Return the words of a part of a name without separators, in lower case and without numbers."""
    lower = chunk.casefold()
    if _NUMBER.fullmatch(lower):
        return []
    if joined := _JOINED.fullmatch(lower):
        return [joined[1]]
    if joined := _SHORT_JOINED.fullmatch(lower):
        return [_SHORT[joined[1]]]
    pieces = [piece.casefold() for piece in _HUMPS.sub(" ", chunk).split()]
    return [piece for piece in pieces if not _NUMBER.fullmatch(piece)]


Splits = dict[str, list[str]]
"""The sorted names of each split."""


def splits_of_folders(names: Collection[str]) -> Splits:
    """Return the splits of folders by their names; empty unless there are several splits.

    Folders may be classes, so the names of different splits must be equal except for the split.
    """
    return _several(names, certain_is_enough=False)


def splits_of_files(names: Collection[str]) -> Splits:
    """Return the splits of shards or tables by their names; empty unless there are several splits.

    Such files are not classes, so every name that contains a split counts.
    """
    return _several(names, certain_is_enough=True)


def _several(names: Collection[str], certain_is_enough: bool) -> Splits:
    families: dict[tuple[str, ...] | None, Splits] = defaultdict(lambda: defaultdict(list))
    for name in sorted(names):
        if read := read_split_name(name):
            families[read.rest][read.split].append(name)
            if read.certain and certain_is_enough:
                families[None][read.split].append(name)
    found: Splits = defaultdict(list)
    for family in [families[None]] if len(families[None]) > 1 else families.values():
        if len(family) > 1:
            for split, members in family.items():
                found[split] += members
    return dict(sorted(found.items()))


def is_bare_split(name: str) -> bool:
    """Whether a name contains only a split and generic words, such as `train`, `Test_Images` or `val2017`."""
    read = read_split_name(name)
    return read is not None and read.certain and not read.rest
