"""Labels that are text: which mean that there is none, which are numbers, and which are names."""

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
"""What programs write for a missing value, in lower case: pandas' list, and MySQL's backslash and N."""

_NUMERIC = re.compile(
    r"[+-]?(\d{1,3}(,\d{3})+|\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE
)
_UNCLEAR = re.compile(r",\d{3}(?!\d)|e[+-]?\d{5}", re.ASCII | re.IGNORECASE)
"""A comma that may part thousands or fractions, or an exponent beyond all reason."""
_LARGEST_WRITTEN_AS_FLOAT = 10**15
"""Above, floats do not hold every whole number."""


def read_labels(found: Iterable[str], known: ClassList | None, where: str) -> dict[str, str | None]:
    """Return what each label says: a class name or a whole number from 0 as text, or None for a missing value.

    Names are stripped and brought to Unicode's composed form. Whole numbers that were written as floats (`1.0`,
    `1e1`, with a decimal comma `1,0`) become whole numbers where all labels are numbers. A label that `known` lists is
    that class, whatever it looks like.

    Args:
        found: the labels as they are written; repeats count once.
        known: the list that class ids come from, if there is one.
        where: the data, for messages.

    Raises:
        UserError: numbers that are no class ids, one number written in two ways among names, or a name that is
            too long or holds control characters.
    """
    listed = frozenset(known.names) if known else frozenset()
    names = {label: clean_name(label) for label in found}
    said = {label: None if name not in listed and name.casefold() in MISSING else name for label, name in names.items()}
    texts = {text for text in said.values() if text is not None}
    for text in texts:
        check_name(text, where)
    if texts <= listed:
        return said
    numeric = {text for text in texts if _NUMERIC.fullmatch(text)}
    if numeric == texts:
        numbers = {text: text if is_number(text) else str(_class_number(text, where)) for text in texts}
        return {label: None if text is None else numbers[text] for label, text in said.items()}
    _check_written_once(numeric, where)
    return said


def whole_number(text: str) -> int | None:
    """Return the value of a number that is written as text, if it is a whole one."""
    if not _NUMERIC.fullmatch(text) or _UNCLEAR.search(text):
        return None
    value = Decimal(text.replace(",", "."))
    if not value.is_finite() or value.copy_abs() > _LARGEST_WRITTEN_AS_FLOAT or value != value.to_integral_value():
        return None
    return int(value)


def say_missing(counts: Mapping[str, int], images: int, where: str) -> tuple[str, ...]:
    """Return the note on images whose label is a missing value; nothing if there are none.

    Args:
        counts: images of each such label, as it is written.
        images: all images that `where` lists.
        where: the data.
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
            f"has the label {text!r}; where all labels are numbers, they must be whole ones",
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
    """Refuse `1` beside `1.0` among names: two classes, or one?"""
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
