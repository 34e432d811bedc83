"""What users pass to a loaded network: paths, numbers and classes of every usual type, or one line that says what is
wrong with them. `TypeError` where the type cannot be taken, `UserError` where the value cannot."""

import operator
import os
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from typing import Any

import numpy as np
from torch import Tensor

from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.text import one_line

LARGEST = 2**63 - 1
"""Of whole numbers: what fits into 64 bits."""

_REMOTE_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)")
"""What pathlib makes of `s3://bucket/name`."""


def described(value: Any) -> str:
    """Return a value and its type in a few words, on one line."""
    try:
        text = " ".join(reprlib.repr(value).split())
    except Exception:  # whatever a foreign __repr__ raises
        return f"an object of type {type(value).__name__}"
    name = type(value).__name__
    says_it = value is None or text.startswith((f"{name}(", f"<{name} "))
    return text[:80] if says_it else f"{text[:80]} ({name})"


def as_url(value: Any, name: str) -> str:
    """Return a path or URL as text; a local one absolute, with `~` replaced.

    Raises:
        TypeError: neither text nor a path.
        UserError: it is empty, or no path and no URL of a known storage.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be text or a path, not {described(value)}")
    try:
        text = os.fsdecode(os.fspath(value))
    except Exception:  # of a foreign path
        raise TypeError(f"{name} must be text or a path, not {described(value)}") from None
    if not text.strip():
        raise UserError(f"{name} is empty", fix="give a path or URL")
    if not isinstance(value, str) and _REMOTE_PATH.match(text):
        raise UserError(f"{name} was a URL before pathlib took a slash from it: {text}", fix="give it as text")
    try:
        if "\0" in text:
            raise ValueError("it holds a null character")
        os.fsencode(text)
        url = stores.absolute_url(text)
        stores.filesystem(url)
    except UserError:
        raise
    except Exception as error:  # of `expanduser`, or of a file system that needs more than a URL
        raise UserError(f"{name} cannot be {described(text)} ({one_line(error)})") from None
    return url


def as_urls(value: Any, name: str) -> list[str]:
    """Return one path or URL, or several, as texts; errors as of `as_url`."""
    if isinstance(value, str | os.PathLike):
        return [as_url(value, name)]
    return [as_url(element, f"{name}[{place}]") for place, element in enumerate(elements(value, name, "a path"))]


def elements(value: Any, name: str, one: str) -> Iterator[Any]:
    """Return the elements of what has an order.

    Raises:
        TypeError: it has none; `one` says what an element should be.
    """
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray | memoryview | Mapping | Set):
        with suppress(Exception):  # of an array without dimensions
            return iter(value)
    raise TypeError(f"{name} must be {one}, or a list of them, not {described(value)}")


def as_plain(value: Any) -> Any:
    """Return the Python number in a scalar of NumPy or torch; anything else as it is."""
    if isinstance(value, np.generic | np.ndarray | Tensor) and value.ndim == 0 and not _is_time(value):
        try:
            return value.item()
        except Exception:  # of a tensor without values
            return value
    return value


def _is_time(value: Any) -> bool:
    """Whether it holds dates or durations of NumPy, some of which turn into numbers in a list."""
    return getattr(value.dtype, "kind", "") in ("m", "M")


def as_whole_number(value: Any, name: str, *, least: int = -LARGEST, most: int = LARGEST) -> int:
    """Return a whole number; 2.0 is one, True is not.

    Raises:
        TypeError: it is no number.
        UserError: it is not whole, or out of bounds.
    """
    plain = as_plain(value)
    if isinstance(plain, float) and not plain.is_integer():
        raise UserError(f"{name} must be a whole number, not {plain}")
    try:
        if isinstance(plain, bool):
            raise TypeError
        number = int(plain) if isinstance(plain, float) else operator.index(plain)
    except Exception:  # of a foreign __index__
        raise TypeError(f"{name} must be a whole number, not {described(value)}") from None
    if number < least:
        bound = "not be negative: " if least == 0 else f"be at least {least}, not "
        raise UserError(f"{name} must {bound}{_number(number)}")
    if number > most:
        raise UserError(f"{name} must be at most {most}, not {_number(number)}")
    return number


def as_number(value: Any, name: str) -> int | float:
    """Return a number; its bounds are checked elsewhere.

    Raises:
        TypeError: it is none.
        UserError: it is larger than a float.
    """
    plain = as_plain(value)
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        raise TypeError(f"{name} must be a number, not {described(value)}")
    try:
        float(plain)
    except OverflowError:
        raise UserError(f"{name} is too large: {_number(plain)}") from None
    return plain


def as_class_ids(labels: Any, classes: Sequence[str]) -> list[int]:
    """Return ids of classes, of one class or several, by id or name; arrays in row-major order.

    Raises:
        TypeError: neither a class nor several.
        UserError: there is no such class.
    """
    if isinstance(labels, np.generic | np.ndarray | Tensor):
        labels = _listed(labels)
    elif isinstance(labels, str) or _is_number(labels):
        labels = [labels]
    return [_class_id(label, classes) for label in elements(labels, "labels", _classes_taken(classes))]


def _listed(labels: Any) -> list[Any]:
    try:
        if _is_time(labels):
            raise ValueError
        return (labels.detach() if isinstance(labels, Tensor) else np.asarray(labels)).reshape(-1).tolist()
    except Exception:  # of tensors without values, and of types that have no list
        raise TypeError(f"labels must be ids or names of classes, not {described(labels)}") from None


def _class_id(label: Any, classes: Sequence[str]) -> int:
    label = as_plain(label)
    if isinstance(label, str):
        return _named_class(label, classes)
    number = int(label) if _is_number(label) and label == int(label) else -1
    if not 0 <= number < len(classes):
        is_number = isinstance(label, int | float) and not isinstance(label, bool)
        raise UserError(f"there is no class {_number(label) if is_number else described(label)}", fix=_ids(classes))
    return number


def _named_class(name: str, classes: Sequence[str]) -> int:
    number = classes.count(name)
    if number == 0:
        raise UserError(f"there is no class {reprlib.repr(name)}", fix=f"there are: {_names(classes)}")
    if number > 1:
        raise UserError(f"{number} classes are called {name!r}", fix=f"give an id; {_ids(classes)}")
    return classes.index(name)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _classes_taken(classes: Sequence[str]) -> str:
    return f"the id (0 to {len(classes) - 1}) or name of a class"


def _ids(classes: Sequence[str]) -> str:
    return f"ids go from 0 to {len(classes) - 1}"


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _number(number: int | float) -> str:
    """Return a number as text; an integer may have more digits than Python writes."""
    huge = isinstance(number, int) and abs(number) > LARGEST
    return f"{'-' * (number < 0)}2^{int(number).bit_length()} or so" if huge else str(number)
