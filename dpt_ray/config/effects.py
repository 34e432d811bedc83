"""Which settings are read: marks beside the fields of the schema, and what follows from them.

A setting that the chosen network, optimizer or process does not read has no effect. It stays out of the addresses of
artifacts, and a job warns where it was given.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from dpt_ray.plugins import OrPlugin, origin_settings

Student = Literal["none", "weak", "strong"]
"""The view of an unlabelled image that a semi-supervised algorithm learns from."""


@dataclass(frozen=True)
class ReadWhen:
    """A mark of a field: it is read under a condition alone.

    Attributes:
        when: the condition in words, as settings of the same group.
        is_read: the condition, on the group of settings that holds the field.
    """

    when: str
    is_read: Callable[[Any], bool]


@dataclass(frozen=True)
class ReadBy:
    """A mark of a field: it is read by algorithms alone that learn from one of these views of unlabelled images."""

    students: tuple[Student, ...]

    @property
    def when(self) -> str:
        """The condition in words."""
        return f"an algorithm that learns from {' or '.join(self.students)} views of unlabelled images"


def read_with(name: str, *values: str) -> ReadWhen:
    """Return the mark of a field that is read with some values of a setting beside it; `name` may have dots."""

    def is_read(section: Any) -> bool:
        value = section
        for part in name.split("."):
            value = getattr(value, part)
        return value in values

    return ReadWhen(f"{name}: {' or '.join(values)}", is_read)


def unread_settings(section: BaseModel, student: Student = "strong") -> dict[str, str]:
    """Return what a group of settings holds that is not read: dotted name -> when it would be.

    A group of which nothing is read stands for all in it.

    Args:
        section: the settings.
        student: of the algorithm that the settings choose.
    """
    unread: dict[str, str] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        missing = [mark for mark in field.metadata if not _is_read(mark, section, student)]
        if missing:
            unread[name] = missing[0].when
        elif isinstance(value, BaseModel):
            unread |= {f"{name}.{inner}": when for inner, when in unread_settings(value, student).items()}
    return unread


def _is_read(mark: Any, section: BaseModel, student: Student) -> bool:
    if isinstance(mark, ReadWhen):
        return mark.is_read(section)
    return student in mark.students if isinstance(mark, ReadBy) else True


def read_settings(section: BaseModel, student: Student = "strong") -> dict[str, Any]:
    """Return the settings of a group that are read, JSON-like: what a result follows from.

    Beside the name of a plug-in stands, as `plug-in`, where it comes from.
    """
    settings = section.model_dump(mode="json")
    _add_origins(settings, section)
    for path in unread_settings(section, student):
        *groups, name = path.split(".")
        holder = settings
        for group in groups:
            holder = holder[group]
        del holder[name]
    return settings


def _add_origins(settings: dict[str, Any], section: BaseModel) -> None:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            _add_origins(settings[name], value)
        for mark in field.metadata:
            if isinstance(mark, OrPlugin):
                settings |= origin_settings(mark.group, value)
