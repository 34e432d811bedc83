"""Class ids: from names in sorted order, from a list that the user gives, or from the training data."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from dpt_ray.config.schema import DataConfig, check_class_names
from dpt_ray.core.labels import MAX_CLASS_ID
from dpt_ray.data import stores
from dpt_ray.errors import UserError

_FIX = "list every class in data.class_file (one name a line, in the order of ids), or in data.class_names"

LARGEST_MISSING_SHARE = 0.5
"""Largest share of the ids from 0 to the largest that may have no image, where nothing says how many classes exist."""


@dataclass(frozen=True)
class ClassList:
    """Names in the order of class ids.

    Attributes:
        names: one a class.
        origin: who says so, for messages.
        from_user: whether the user gave the list; then whole numbers that it lacks may be ids.
    """

    names: tuple[str, ...]
    origin: str
    from_user: bool = False


def given_classes(data: DataConfig) -> ClassList | None:
    """Return the classes that the settings list; None if they don't.

    Raises:
        UserError: a name is empty, or their number contradicts `data.num_classes`.
    """
    if data.class_names is not None:
        classes = ClassList(data.class_names, "data.class_names", from_user=True)
    elif data.class_file is not None:
        url = stores.absolute_url(data.class_file)
        text = stores.read_bytes(url).decode("utf-8-sig", errors="replace")
        classes = ClassList(tuple(line.strip() for line in text.rstrip().split("\n")), url, from_user=True)
    else:
        return None
    if len(classes.names) < 2:
        raise UserError(f"lists {len(classes.names)} classes", where=classes.origin, fix="give one class name a line")
    if not all(name.strip() for name in classes.names):
        raise UserError("has an empty line among the class names", where=classes.origin, fix="name every class")
    try:
        check_class_names(classes.names)
    except ValueError as error:
        raise UserError(str(error), where=classes.origin) from None
    check_number(len(classes.names), data.num_classes, classes.origin)
    return classes


def check_number(classes: int, num_classes: int | None, where: str) -> None:
    """Refuse a number of named classes that contradicts `data.num_classes`.

    Raises:
        UserError: it does.
    """
    if num_classes not in (None, classes):
        raise UserError(
            f"there are {classes} classes but data.num_classes is {num_classes}",
            where=where,
            fix="set data.num_classes to that number, or to null",
        )


def is_number(label: str) -> bool:
    """Whether a label is a whole number from 0, in plain digits."""
    return label.isascii() and label.isdigit()


def sorted_names(labels: Iterable[str]) -> tuple[str, ...]:
    """Return class names in the order of their ids: by text, or by value if all are whole numbers."""
    labels = set(labels)
    if all(map(is_number, labels)):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def check_id_gaps(ids: Collection[int], where: str) -> None:
    """Refuse class ids that are implausible as ids: most of the numbers from 0 to the largest are missing.

    Call it where neither the settings nor the data say how many classes exist, so that the largest id would.

    Args:
        ids: the class ids that occur.
        where: the data, for messages.

    Raises:
        UserError: an id above `MAX_CLASS_ID`, or more than `LARGEST_MISSING_SHARE` of the ids are missing.
    """
    present = sorted(set(ids))
    if not present:
        return
    classes = present[-1] + 1
    missing = classes - len(present)
    if present[-1] <= MAX_CLASS_ID and missing <= LARGEST_MISSING_SHARE * classes:
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
    """Return the class id of each class name that occurs.

    Args:
        labels: the names; repeats count once.
        known: the list that ids come from; without one the names themselves make it.
        where: the data, for messages.

    Raises:
        UserError: a name is not on the list, or twice.
    """
    labels = set(labels)
    if known is None:
        return {name: number for number, name in enumerate(sorted_names(labels))}
    ids = {name: number for number, name in enumerate(known.names)}
    if len(ids) < len(known.names):
        uses = Counter(known.names)
        for name in sorted(labels):
            if uses[name] > 1:
                raise UserError(f"lists the class {name!r} twice", where=known.origin, fix="name each class once")
    unknown = sorted(labels - ids.keys())
    if unknown and known.from_user and len(unknown) == len(labels) and all(map(is_number, labels)):
        return _ids_of_numbers(labels, known, where)
    if unknown:
        others = f" (nor {len(unknown) - 1} more of its classes)" if len(unknown) > 1 else ""
        raise UserError(f"the class {unknown[0]!r}{others} is not one of {known.origin}", where=where, fix=_FIX)
    return {label: ids[label] for label in labels}


def _ids_of_numbers(labels: set[str], known: ClassList, where: str) -> dict[str, int]:
    ids = {label: int(label) for label in labels}
    largest = max(ids.values())
    if largest >= len(known.names):
        raise UserError(
            f"has the class id {largest} but {known.origin} lists {len(known.names)} classes", where=where, fix=_FIX
        )
    return ids


def ids_of_declared(declared: Sequence[str] | None, known: ClassList | None, where: str) -> list[int] | None:
    """Return what each class id of a source that numbers its classes becomes; None if ids stay as they are.

    Args:
        declared: the names that the source gives its ids, None if it gives none.
        known: the list that ids come from; without one the source's own ids hold.
        where: the data, for messages.

    Raises:
        UserError: the source names a class that is not on the list.
    """
    if declared is None or known is None:
        return None
    ids = ids_of_names(declared, known, where)
    return [ids[name] for name in declared]
