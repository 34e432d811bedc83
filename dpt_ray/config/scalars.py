"""YAML scalars: they stay text until the type of their setting is known.

A scalar without quotes becomes a number, a truth value or null by the core schema of YAML 1.2 (section 10.3.2) if its
setting has such a type. It stays text if the setting takes text: `007` is 7 as a seed and "007" as a name. A scalar in
quotes is always text.
"""

import math
import re
import types
import typing
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from pydantic import BaseModel

from dpt_ray.config.places import redacted_value

MAX_NUMBER_CHARACTERS = 64
MAX_INTEGER = 2**63 - 1
MAX_SHOWN = 80
"""Largest number of characters of a value in a message."""

_NULL = ("null", "Null", "NULL", "~", "")
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class Plain(str):
    """A scalar without quotes, as text."""

    __slots__ = ()


class Mistyped:
    """A value of the wrong type. No setting accepts it, and messages show the original value.

    Args:
        value: the original value.
        reason: why it has the wrong type; None if that needs no explanation.
    """

    def __init__(self, value: Any, reason: str | None = None):
        self.value, self.reason = value, reason

    def __repr__(self) -> str:
        return shown(self.value)


def shown(value: Any) -> str:
    """Return a value for a message: as it was typed, without secrets, and shortened."""
    if isinstance(value, Plain) and not isinstance(core_value(value), str):
        text = str(value)
    elif isinstance(value, str):
        text = repr(str(redacted_value(value)))
    else:
        text = redacted_value(repr(value))
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def is_null(value: Any) -> bool:
    """Return whether a scalar is null."""
    return value is None or (isinstance(value, Plain) and value in _NULL)


def core_value(text: str) -> bool | int | float | str | None:
    """Return the value of a scalar without quotes by the core schema; numbers out of range stay text."""
    if text in _NULL:
        return None
    if text in _TRUTH:
        return _TRUTH[text]
    value: int | float | None = None
    if _INTEGER.fullmatch(text):
        value = _integer(text)
    elif _is_float(text):
        value = _float(text)
    return str(text) if value is None else value


def _is_float(text: str) -> bool:
    """Return whether a text is a decimal number, integer or not."""
    return bool(_FLOAT.fullmatch(text) or _SPECIAL.fullmatch(text))


def _integer(text: str) -> int | None:
    """Return the exact integer that a text denotes; None if it is not an integer or does not fit into 64 bits."""
    if len(text) > MAX_NUMBER_CHARACTERS:
        return None
    if _INTEGER.fullmatch(text):
        number = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    elif _FLOAT.fullmatch(text):
        try:
            decimal = Decimal(text)
        except InvalidOperation:
            return None
        if decimal.adjusted() > 20 or decimal != decimal.to_integral_value():
            return None
        number = int(decimal)
    else:
        return None
    return number if abs(number) <= MAX_INTEGER else None


def _float(text: str) -> float | None:
    """Return the nearest float; None if the text is not a number, overflows or underflows to 0."""
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", ""))
    if len(text) > MAX_NUMBER_CHARACTERS:
        return None
    if _INTEGER.fullmatch(text):
        number = _integer(text)
        return None if number is None else float(number)
    if not _FLOAT.fullmatch(text):
        return None
    value = float(text)
    vanishes = value == 0 and bool(re.search(r"[1-9]", re.split("[eE]", text)[0]))
    return None if math.isinf(value) or vanishes else value


def as_wanted(value: Any, annotation: Any) -> Any:
    """Return a value converted to the type of a setting's annotation; a `Mistyped` if it has another type.

    Values that are not YAML scalars keep their type. A truth value is not accepted as a number, nor a text as either.
    """
    if type(value) is annotation:  # most values that come from code; it saves a third of the time
        return value
    choices = _choices(annotation)
    if isinstance(value, list | tuple):
        return _listed(value, choices)
    if isinstance(value, dict):
        held = next((typing.get_args(c)[1] for c in choices if typing.get_origin(c) is dict), None)
        if held is not None:
            return {str(key): as_wanted(item, held) for key, item in value.items()}
        return untyped(value) if Any in choices else value  # a section converts its own values
    if isinstance(value, Plain):
        return _typed(value, choices)
    if isinstance(value, str):
        return value if _takes_text(choices) else Mistyped(value, _quoted_reason(value, choices))
    if isinstance(value, bool) and Any not in choices and bool not in choices:
        return Mistyped(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and bool in choices and Any not in choices:
        return value if {int, float} & set(choices) else Mistyped(value)
    return value


def untyped(value: Any) -> Any:
    """Return a value with all scalars converted by the core schema."""
    if isinstance(value, dict):
        return {str(key): untyped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [untyped(item) for item in value]
    return core_value(value) if isinstance(value, Plain) else value


def _listed(values: Any, choices: list[Any]) -> Any:
    """Convert the items of a list. For a tuple of fixed length each item has a type of its own."""
    held = next((typing.get_args(c) for c in choices if typing.get_origin(c) in (tuple, list)), None)
    if held is None:
        return untyped(values) if Any in choices else values
    if len(held) == 2 and held[1] is Ellipsis:
        held = (held[0],) * len(values)
    elif len(held) < len(values):  # too many items; pydantic refuses them
        held = (*held, *[Any] * (len(values) - len(held)))
    return [as_wanted(item, kind) for item, kind in zip(values, held, strict=False)]


def _choices(annotation: Any) -> list[Any]:
    """Return the types that an annotation allows, without `Annotated` and unions."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _choices(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [choice for part in typing.get_args(annotation) for choice in _choices(part)]
    return [annotation]


def _literals(choices: list[Any]) -> tuple[Any, ...]:
    return tuple(value for c in choices if typing.get_origin(c) is Literal for value in typing.get_args(c))


def _takes_text(choices: list[Any]) -> bool:
    return Any in choices or str in choices or any(isinstance(value, str) for value in _literals(choices))


def _typed(text: Plain, choices: list[Any]) -> Any:
    if Any in choices:
        return core_value(text)
    if is_null(text):
        return None if type(None) in choices else Mistyped(text, _null_reason(text, choices))
    literals = _literals(choices)
    if str in choices or text in literals:
        return str(text)
    if bool in choices and text in _TRUTH:
        return _TRUTH[text]
    number = _integer(text)
    if number is not None and (int in choices or number in [v for v in literals if type(v) is int]):
        return number
    if float in choices and (value := _float(text)) is not None:
        return value
    if any(isinstance(value, str) for value in literals):
        return str(text)
    return Mistyped(text, _plain_reason(text, choices))


def _null_reason(text: Plain, choices: list[Any]) -> str:
    if text == "":
        return "it is empty"
    if str in choices:
        return f'null means "not given"; in quotes it is a text: "{text}"'
    return "it cannot be null"


def _wanted_words(choices: list[Any]) -> str | None:
    words = {int: "a whole number", float: "a number", bool: "true or false"}
    return next((words[kind] for kind in (bool, float, int) if kind in choices), None)


def _plain_reason(text: Plain, choices: list[Any]) -> str | None:
    wanted = _wanted_words(choices)
    if wanted is None:
        return None
    if bool in choices and text.lower() in ("yes", "no", "on", "off", "y", "n"):
        return f"{wanted} is wanted, and YAML 1.2 takes this for a text"
    if "_" in text and _is_float(text.replace("_", "")):
        return f"{wanted} is wanted; write it without underscores: {text.replace('_', '')}"
    if bool not in choices and _is_float(text):
        if int in choices and _float(text) is not None and _integer(text) is None and not _too_large(text):
            return f"{wanted} is wanted"
        return f"{wanted} is wanted, and this one is too large or too small for one"
    return f"{wanted} is wanted"


def _too_large(text: str) -> bool:
    value = _float(text)
    return value is not None and abs(value) > MAX_INTEGER


def _quoted_reason(text: str, choices: list[Any]) -> str | None:
    wanted = _wanted_words(choices)
    if wanted is None:
        return None
    fits = not isinstance(_typed(Plain(text), choices), Mistyped)
    return f"{wanted} is wanted, and in quotes this is a text" + ("; leave out the quotes" if fits else "")


def is_section(annotation: Any) -> type[BaseModel] | None:
    """Return the section that an annotation denotes; None for a single setting."""
    for choice in _choices(annotation):
        if isinstance(choice, type) and issubclass(choice, BaseModel):
            return choice
    return None
