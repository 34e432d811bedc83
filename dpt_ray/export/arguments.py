"""Validation of arguments to a loaded network: paths, numbers and classes, of Python, NumPy or torch types.

An unsupported type raises `TypeError`, an invalid value `UserError`. The message is one line.
"""

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
"""Largest whole number: that of a signed 64-bit integer."""

_REMOTE_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)")
"""Matches the result of `pathlib.Path("s3://bucket/name")`, which drops a slash."""


def described(value: Any) -> str:
    """Return a short description of a value and its type, on one line."""
    try:
        text = " ".join(reprlib.repr(value).split())
    except Exception:  # a foreign __repr__ may raise anything
        return f"an object of type {type(value).__name__}"
    name = type(value).__name__
    names_type = value is None or text.startswith((f"{name}(", f"<{name} "))
    return text[:80] if names_type else f"{text[:80]} ({name})"


def as_url(value: Any, name: str) -> str:
    """Return a path or URL as text; local paths become absolute, with `~` expanded.

    Raises:
        TypeError: it is neither text nor a path.
        UserError: it is empty, or neither a path nor a URL of a supported storage.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be text or a path, not {described(value)}")
    try:
        text = os.fsdecode(os.fspath(value))
    except Exception:  # a foreign __fspath__ may raise anything
        raise TypeError(f"{name} must be text or a path, not {described(value)}") from None
    if not text.strip():
        raise UserError(f"{name} is empty", fix="give a path or URL")
    if not isinstance(value, str) and _REMOTE_PATH.match(text):
        raise UserError(f"{name} is a URL from which pathlib has removed a slash: {text}", fix="give it as text")
    try:
        if "\0" in text:
            raise ValueError("it holds a null character")
        os.fsencode(text)
        url = stores.absolute_url(text)
        stores.filesystem(url)
    except UserError:
        raise
    except Exception as error:  # from `expanduser`, or from a file system that needs more than a URL
        raise UserError(f"{name} cannot be {described(text)} ({one_line(error)})") from None
    return url


def as_urls(value: Any, name: str) -> list[str]:
    """Return one or several paths or URLs as texts; errors are those of `as_url`."""
    if isinstance(value, str | os.PathLike):
        return [as_url(value, name)]
    return [as_url(element, f"{name}[{place}]") for place, element in enumerate(elements(value, name, "a path"))]


def elements(value: Any, name: str, one: str) -> Iterator[Any]:
    """Iterate over an ordered collection.

    Args:
        value: the collection.
        name: name of the argument.
        one: what a single element should be, for the message.

    Raises:
        TypeError: it is no collection, or has no order.
    """
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray | memoryview | Mapping | Set):
        with suppress(Exception):  # an array without dimensions raises
            return iter(value)
    raise TypeError(f"{name} must be {one}, or a list of them, not {described(value)}")


def as_plain(value: Any) -> Any:
    """Return scalars of NumPy or torch as Python numbers; anything else unchanged."""
    if isinstance(value, np.generic | np.ndarray | Tensor) and value.ndim == 0 and not _is_time(value):
        try:
            return value.item()
        except Exception:  # a tensor without values raises
            return value
    return value


def _is_time(value: Any) -> bool:
    """Whether it holds dates or durations of NumPy; `tolist` would turn some of them into plain numbers."""
    return getattr(value.dtype, "kind", "") in ("m", "M")


def as_whole_number(value: Any, name: str, *, least: int = -LARGEST, most: int = LARGEST) -> int:
    """Return a whole number in [least, most]; 2.0 is accepted, True is not.

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
    except Exception:  # a foreign __index__ may raise anything
        raise TypeError(f"{name} must be a whole number, not {described(value)}") from None
    if number < least:
        bound = "not be negative: " if least == 0 else f"be at least {least}, not "
        raise UserError(f"{name} must {bound}{_number(number)}")
    if number > most:
        raise UserError(f"{name} must be at most {most}, not {_number(number)}")
    return number


def as_number(value: Any, name: str) -> int | float:
    """Return a number; the caller checks its bounds.

    Raises:
        TypeError: it is no number.
        UserError: it is an integer that does not fit into a float.
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
    """Return the ids of one or several classes, which are given by id or name; arrays are read in row-major order.

    Raises:
        TypeError: it is neither a class nor a collection of classes.
        UserError: there is no such class, or several have the given name.
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
    except Exception:  # tensors without values, and types without a list form, raise
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
    """Return a number as text; huge integers as a power of two, since Python limits the digits that it writes."""
    huge = isinstance(number, int) and abs(number) > LARGEST
    return f"{'-' * (number < 0)}2^{int(number).bit_length()} or so" if huge else str(number)
