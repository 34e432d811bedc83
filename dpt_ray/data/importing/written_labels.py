"""Interpret labels that are texts: a missing value, a number or a class name."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal

from dpt_ray.data.importing.classes import ClassList, check_name, clean_name, is_number
from dpt_ray.errors import UserError

MISSING = frozenset({
    "", "nan", "-nan", "na", "n/a", "<na>", "null", "<null>", "none", "nat", r"\n", "#na", "#n/a", "#n/a n/a",
    "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan",
})  # fmt: skip
"""Texts that programs write for a missing value, in lower case: the list of pandas, and MySQL's backslash and N."""

_NUMERIC = re.compile(
    r"[+-]?(\d{1,3}(,\d{3})+|\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE
)
_UNCLEAR = re.compile(r",\d{3}(?!\d)|e[+-]?\d{5}", re.ASCII | re.IGNORECASE)
"""A comma that may separate thousands or decimals, or an exponent of five digits or more."""
_LARGEST_WRITTEN_AS_FLOAT = 10**15
"""Largest number that is accepted as a float. A float64 preserves 15 decimal digits."""


def read_labels(found: Iterable[str], known: ClassList | None, where: str) -> dict[str, str | None]:
    """Interpret each label.

    Names are stripped and converted to Unicode's composed form. If all labels are numbers, whole numbers that are
    written as floats (`1.0`, `1e1`, with a decimal comma `1,0`) are converted. A label that `known` lists is that
    class, even if it looks like a number or a missing value.

    Args:
        found: the labels as they are written; they may repeat.
        known: the classes, if the user or the training data lists them.
        where: the data, for messages.

    Returns:
        The meaning of each label: a class name, a whole number from 0 as text, or None for a missing value.

    Raises:
        UserError: all labels are numbers and one is not a class id; one number is written in two ways among names; or
            a name is too long or holds control characters.
    """
    listed = frozenset(known.names) if known else frozenset()
    names = {label: clean_name(label) for label in found}
    meanings = {
        label: None if name not in listed and name.casefold() in MISSING else name for label, name in names.items()
    }
    texts = {text for text in meanings.values() if text is not None}
    for text in texts:
        check_name(text, where)
    if texts <= listed:
        return meanings
    numeric = {text for text in texts if _NUMERIC.fullmatch(text)}
    if numeric == texts:
        numbers = {text: text if is_number(text) else str(_class_number(text, where)) for text in texts}
        return {label: None if text is None else numbers[text] for label, text in meanings.items()}
    _check_written_once(numeric, where)
    return meanings


def whole_number(text: str) -> int | None:
    """Return the value of a text that is a whole number; None for other texts."""
    if not _NUMERIC.fullmatch(text) or _UNCLEAR.search(text):
        return None
    value = Decimal(text.replace(",", "."))
    if not value.is_finite() or value.copy_abs() > _LARGEST_WRITTEN_AS_FLOAT or value != value.to_integral_value():
        return None
    return int(value)


def say_missing(counts: Mapping[str, int], images: int, where: str) -> tuple[str, ...]:
    """Return a note on images whose label is a missing value, as a tuple; empty if there are none.

    Args:
        counts: number of images of each such label, as it is written.
        images: number of all images in the data.
        where: the data, for the note.
    """
    if not counts:
        return ()
    texts = Counter[str]()
    for label, count in counts.items():
        texts[label.strip()] += count
    ways = ", ".join(f"{count:,} {text!r}" if text else f"{count:,} empty" for text, count in sorted(texts.items()))
    note = f"{texts.total():,} of {images:,} images of {where} have no label ({ways})"
    if set(texts) - {""}:
        note += "; if one of these is a class, list the classes in data.class_file"
    return (note,)


def _class_number(text: str, where: str) -> int:
    value = whole_number(text)
    if value is None:
        raise UserError(
            f"has the label {text!r}; where all labels are numbers, they must be whole numbers",
            where=where,
            fix="write class ids without fraction or separators, set data.label_column to the classes' column, "
            "or list the classes in data.class_file",
        )
    if value < 0:
        raise UserError(
            f"has the class id {value}; class ids count from 0",
            where=where,
            fix="leave the cells of unlabelled images empty, or set data.label_column to the classes' column",
        )
    return value


def _check_written_once(numeric: Iterable[str], where: str) -> None:
    """Refuse two spellings of one number among names, such as `1` and `1.0`: they may be one class or two."""
    first: dict[int, str] = {}
    for text in sorted(numeric):
        value = whole_number(text)
        if value is None:
            continue
        earlier = first.setdefault(value, text)
        if earlier != text and not (is_number(earlier) and is_number(text)):
            raise UserError(
                f"has the labels {earlier!r} and {text!r}, which are one number, among names",
                where=where,
                fix="write each class in one way",
            )
