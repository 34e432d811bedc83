"""Validation errors of pydantic as one line: the setting, the given value, its source, and the remedy."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dpt_ray.config.scalars import Mistyped, shown
from dpt_ray.errors import UserError

Tree = dict[str, Any]
"""Settings as YAML gives them, before they are checked: name -> value, or -> the tree of a section."""


@dataclass(frozen=True)
class Source:
    """A source of settings: a file, or an override of the command line.

    Attributes:
        name: its name in messages, without secrets.
        tree: its settings.
    """

    name: str
    tree: Tree


def origin(paths: Sequence[Sequence[str]], sources: Sequence[Source]) -> str:
    """Return the name of the first source that sets one of `paths`; without one, that of the last source."""
    for source in sources:
        if any(_sets(source.tree, path) for path in paths):
            return source.name
    return sources[-1].name


def _sets(tree: Any, path: Sequence[str]) -> bool:
    return not path or (isinstance(tree, dict) and path[0] in tree and _sets(tree[path[0]], path[1:]))


def complaint(error: ValidationError, sources: Sequence[Source], known: Sequence[str]) -> UserError:
    """Return the error for the user, one line.

    Args:
        error: pydantic's error for a run's settings.
        sources: the sources of the settings, by descending precedence.
        known: the dotted names of all settings.
    """
    # An unknown key is the likeliest cause of all other errors, so it comes first.
    details = sorted(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
    places = [detail["loc"] for detail in details]
    inherits = ("stage3",)
    details = [d for d in details if d["loc"][:1] != inherits or ("stage1", *d["loc"][1:]) not in places]
    first = details[0]
    path = tuple(part for part in first["loc"] if isinstance(part, str))
    paths = [path]
    if first["type"] == "value_error":  # settings that contradict each other
        paths = _named_settings(first["msg"], path, known) or [path]
    inherited = [("stage1", *setting[1:]) for setting in paths if setting[:1] == ("stage3",)]
    where = origin([*paths, *inherited], sources)
    more = f" ({len(details) - 1} more after this one)" if len(details) > 1 else ""
    fix = _fix_unknown(path, known) if first["type"] == "extra_forbidden" else None
    return UserError(f"{describe(first)}{more}", where=where, fix=fix)


def _fix_unknown(path: tuple[str, ...], known: Sequence[str]) -> str:
    name = ".".join(path)
    if name in known:  # a key with dots, as on the command line
        return "nest it: " + "".join(f"{part}: {{" for part in name.split(".")[:-1]) + f"{name.split('.')[-1]}: ...}}"
    return nearest(name, known)


def describe(detail: Any) -> str:
    """Return one of pydantic's details in words: the setting, its value, and why that is not allowed."""
    name = ".".join(part for part in detail["loc"] if isinstance(part, str))
    if detail["type"] == "extra_forbidden":
        return f"unknown setting {shown(str(name))}"
    if detail["type"] == "value_error":
        reason = detail["msg"].removeprefix("Value error, ")
        return f"{name}{'' if _continues(reason) else ':'} {reason}" if name else reason
    value = detail["input"]
    if isinstance(value, Mistyped) and value.value == "":
        return f"{name} is empty"
    return f"{name + ' = ' if name else ''}{shown(value)} is not allowed: {reason_of(detail)}"


def _continues(reason: str) -> bool:
    """Return whether a reason continues a sentence that begins with the setting: 'root' 'is empty'."""
    return reason.startswith(("is ", "has ", "holds ", "must be ", "names ", "begins "))


def reason_of(detail: Any) -> str:
    """Return why a value is not allowed."""
    value = detail["input"]
    if isinstance(value, Mistyped) and value.reason:
        return value.reason
    kinds = {
        "int_type": "a whole number is wanted",
        "float_type": "a number is wanted",
        "bool_type": "true or false is wanted",
        "string_type": "a text is wanted",
        "tuple_type": "a list is wanted, such as [1, 2]",
        "model_type": "a group of settings is wanted",
        "dict_type": "a group of settings is wanted",
        "missing": "a value is missing",
        "too_long": "these are too many values",
    }
    message: str = kinds.get(detail["type"], detail["msg"])
    return message[:1].lower() + message[1:]


def _named_settings(reason: str, section: tuple[str, ...], known: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the settings of `section` in a message, whether dotted or by their names in the section."""
    words = set(re.findall(r"\w+(?:\.\w+)*", reason))
    settings = [tuple(name.split(".")) for name in known]
    inside = [path for path in settings if path[: len(section)] == section]
    return [path for path in inside if {".".join(path), ".".join(path[len(section) :])} & words]


def nearest(name: str, known: Sequence[str]) -> str:
    """Return the remedy for an unknown setting: the nearest known one."""
    known = [*known, *sorted({candidate.rpartition(".")[0] for candidate in known} - {""})]
    leaf = name.rpartition(".")[2]
    same_leaf = [candidate for candidate in known if candidate.rpartition(".")[2] == leaf]
    leaves = {candidate.rpartition(".")[2]: candidate for candidate in reversed(known)}
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75) or same_leaf
    if not near:
        near = [leaves[match] for match in difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.6)]
    return f"did you mean {near[0]!r}?" if near else "every setting is listed in docs/reference/settings.md"
