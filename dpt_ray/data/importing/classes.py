"""Assign class ids: from sorted names, from the user's list of classes, or from the training data."""

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from dpt_ray.config.data_section import DataConfig
from dpt_ray.core.class_ids import MAX_CLASS_ID
from dpt_ray.data.importing.text_files import read_lines
from dpt_ray.data.shards.keys import normalise_name
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

_FIX = "list every class in data.class_file (one name a line, in the order of ids), or in data.class_names"

MAX_MISSING_SHARE = 0.5
"""Maximum share of the ids from 0 to the largest one that may have no image, if the number of classes is unknown."""
PLAUSIBLE_IDS = 100
"""Ids below this limit are accepted with any gaps: ten images may well have the classes 3, 7 and 42."""
MAX_NAME_LENGTH = 500
"""Maximum number of characters of a class name."""
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories that a name may not hold: control characters, surrogates, line and paragraph separators."""


@dataclass(frozen=True)
class ClassList:
    """The classes in the order of their ids.

    Attributes:
        names: one name for each class.
        origin: the setting, file or data that lists the classes, for messages.
        from_user: whether the user gave the list. Only then may whole numbers that it lacks be class ids.
    """

    names: tuple[str, ...]
    origin: str
    from_user: bool = False


def given_classes(data: DataConfig) -> ClassList | None:
    """Return the classes that the settings list; None if they list none.

    Raises:
        UserError: a name is empty, too long or listed twice, or the number of names contradicts `data.num_classes`.
    """
    if data.class_names is not None:
        names, origin = data.class_names, "data.class_names"
    elif data.class_file is not None:
        origin = stores.absolute_url(data.class_file)
        names = _read_names(origin)
    else:
        return None
    if len(names) < 2:
        raise UserError(f"lists {len(names)} classes", where=origin, fix="give one class name a line")
    classes = ClassList(check_names(names, origin), origin, from_user=True)
    check_number(len(classes.names), data.num_classes, origin)
    return classes


def _read_names(url: str) -> tuple[str, ...]:
    """Return the lines of a file without trailing empty lines."""
    names: list[str] = []
    for number, line in enumerate(read_lines(url, "list of classes")):
        if name := clean_name(line):
            _check_count(number + 1, url)
            check_name(name, url)
            names += [""] * (number - len(names))
            names.append(line.strip())
    return tuple(names)


def clean_name(name: str) -> str:
    """Return a class name without surrounding space, in Unicode's composed form (NFC)."""
    return normalise_name(name.strip())


def check_name(name: str, where: str) -> None:
    """Refuse an invalid class name.

    Args:
        name: the name.
        where: the data that has it, for messages.

    Raises:
        UserError: the name is longer than `MAX_NAME_LENGTH`, or holds a control character or a line break.
    """
    if len(name) > MAX_NAME_LENGTH:
        raise UserError(
            f"has a class name of {len(name):,} characters, {name[:40]!r}...; at most {MAX_NAME_LENGTH} are read",
            where=where,
            fix="set data.label_column to the classes' column, or shorten the name",
        )
    odd = next((c for c in name if unicodedata.category(c) in _UNPRINTABLE), None)
    if odd is not None:
        raise UserError(f"has the class name {name!r}, which holds {odd!r}", where=where, fix="remove the character")


def check_names(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Return class names, each in the form that `clean_name` returns.

    Args:
        names: the names.
        where: the list that holds them, for messages.

    Raises:
        UserError: there are more names than class ids, a name is empty or invalid, or two names are equal.
    """
    _check_count(len(names), where)
    seen: dict[str, str] = {}
    for name in names:
        clean = clean_name(name)
        if not clean:
            raise UserError("has an empty line among the class names", where=where, fix="name every class")
        check_name(clean, where)
        if clean in seen:
            spelled = "" if seen[clean] == name else ", in two spellings that look the same"
            raise UserError(f"lists the class {clean!r} twice{spelled}", where=where, fix="name each class once")
        seen[clean] = name
    return tuple(seen)


def _check_count(classes: int, where: str) -> None:
    if classes > MAX_CLASS_ID + 1:
        raise UserError(
            f"names more than {MAX_CLASS_ID + 1:,} classes",
            where=where,
            fix="give a list of classes, or set data.label_column to their column",
        )


def check_number(classes: int, num_classes: int | None, where: str) -> None:
    """Refuse a number of named classes that contradicts `data.num_classes`.

    Raises:
        UserError: the numbers differ.
    """
    if num_classes not in (None, classes):
        raise UserError(
            f"there are {classes} classes but data.num_classes is {num_classes}",
            where=where,
            fix="set data.num_classes to that number, or to null",
        )


def is_number(label: str) -> bool:
    """Whether a label consists of ASCII digits, so that it is a whole number from 0."""
    return label.isascii() and label.isdigit()


def sorted_names(labels: Iterable[str]) -> tuple[str, ...]:
    """Return class names in the order of their ids: by text, or by value if all are whole numbers.

    Names that differ only in their Unicode form are one name.
    """
    labels = set(map(normalise_name, labels))
    if all(map(is_number, labels)):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def check_ids(ids: Collection[int], num_classes: int | None, where: str) -> None:
    """Refuse class ids that contradict `data.num_classes`, or are implausible if it is not set.

    Raises:
        UserError: an id is too large, or `check_id_gaps` refuses the ids.
    """
    if num_classes is None:
        check_id_gaps(ids, where)
    elif ids and max(ids) >= num_classes:
        raise UserError(
            f"has the class id {max(ids)} but data.num_classes is {num_classes} (ids 0 to {num_classes - 1})",
            where=where,
            fix="set data.num_classes to the number of classes, or list the classes in data.class_file",
        )


def check_id_gaps(ids: Collection[int], where: str) -> None:
    """Refuse class ids that are implausible because most of the numbers from 0 to the largest id are missing.

    Ids below `PLAUSIBLE_IDS` are always plausible. Call it where neither the settings nor the data state the number of
    classes, so that the largest id determines it.

    Args:
        ids: the class ids that occur.
        where: the data, for messages.

    Raises:
        UserError: an id is above `MAX_CLASS_ID`, or more than `MAX_MISSING_SHARE` of the ids are missing.
    """
    present = sorted(set(ids))
    if not present:
        return
    classes = present[-1] + 1
    missing = classes - len(present)
    plausible = classes <= PLAUSIBLE_IDS or missing <= MAX_MISSING_SHARE * classes
    if present[-1] <= MAX_CLASS_ID and plausible:
        return
    listed = ", ".join(map(str, present)) if len(present) <= 3 else f"{present[0]}, {present[1]}, ..., {present[-1]}"
    raise UserError(
        f"has the class ids {listed}, which leave {missing:,} of the {classes:,} ids from 0 to {present[-1]} "
        "without an image; these numbers look like names",
        where=where,
        fix="list every class in data.class_file (one name a line, in the order of ids) or in data.class_names, "
        "or set data.num_classes if they are ids",
    )


def ids_of_names(labels: Iterable[str], known: ClassList | None, where: str) -> dict[str, int]:
    """Return the class id of each class name that occurs, whatever its Unicode form.

    Args:
        labels: the names; they may repeat.
        known: the classes in the order of their ids; None to sort `labels`.
        where: the data, for messages.

    Raises:
        UserError: `known` lacks a name, or lists one twice.
    """
    labels = {label: normalise_name(label) for label in labels}
    if known is None:
        ids = {name: number for number, name in enumerate(sorted_names(labels))}
        return {label: ids[name] for label, name in labels.items()}
    ids = {normalise_name(name): number for number, name in enumerate(known.names)}
    if len(ids) < len(known.names):
        check_names(known.names, known.origin)
    unknown = sorted(set(labels.values()) - ids.keys())
    if unknown and known.from_user and len(unknown) == len(set(labels.values())) and all(map(is_number, unknown)):
        return _ids_of_numbers(labels, known, where)
    if unknown:
        others = f" (nor {len(unknown) - 1} more of its classes)" if len(unknown) > 1 else ""
        alike = [name for name in ids if name.casefold() == unknown[0].casefold()]
        fix = f"call it {alike[0]!r}, or {_FIX}" if alike else _FIX
        raise UserError(f"the class {unknown[0]!r}{others} is not one of {known.origin}", where=where, fix=fix)
    return {label: ids[name] for label, name in labels.items()}


def _ids_of_numbers(labels: Iterable[str], known: ClassList, where: str) -> dict[str, int]:
    ids = {label: int(label) for label in labels}
    largest = max(ids.values())
    if largest >= len(known.names):
        raise UserError(
            f"has the class id {largest} but {known.origin} lists {len(known.names)} classes", where=where, fix=_FIX
        )
    return ids


def ids_of_declared(declared: Sequence[str] | None, known: ClassList | None, where: str) -> list[int] | None:
    """Map the class ids of a source to the ids of a list of classes, by name.

    Args:
        declared: the names of the source's ids, in their order; None if the source names none.
        known: the classes in the order of their ids; None to keep the source's ids.
        where: the data, for messages.

    Returns:
        The new id of each id of the source; None if the ids stay as they are.

    Raises:
        UserError: the source names a class that `known` lacks.
    """
    if declared is None or known is None:
        return None
    ids = ids_of_names(declared, known, where)
    return [ids[name] for name in declared]
