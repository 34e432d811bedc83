"""Which settings have an effect: marks of the fields of the schema, and functions that evaluate them.

A setting that the chosen network, optimizer or process does not read has no effect. It is left out of the addresses of
artifacts, and a job warns if it is given.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from dpt_ray.plugins import OrPlugin, origin_settings

ConsistencyView = Literal["none", "weak", "strong"]
"""The view of an unlabelled image whose prediction a semi-supervised algorithm trains."""


@dataclass(frozen=True)
class ReadWhen:
    """A mark of a field that is read under a condition only.

    Attributes:
        when: the condition in words, in terms of settings of the same section.
        is_read: evaluates the condition on the section with the field.
    """

    when: str
    is_read: Callable[[Any], bool]


@dataclass(frozen=True)
class ReadBy:
    """A mark of a field that only algorithms with one of these consistency views read.

    Attributes:
        views: the consistency views.
    """

    views: tuple[ConsistencyView, ...]

    @property
    def when(self) -> str:
        """The condition in words."""
        return f"an algorithm that learns from {' or '.join(self.views)} views of unlabelled images"


def read_with(name: str, *values: str) -> ReadWhen:
    """Return the mark of a field that is read with certain values of another setting; `name` may be dotted."""

    def is_read(section: Any) -> bool:
        value = section
        for part in name.split("."):
            value = getattr(value, part)
        return value in values

    return ReadWhen(f"{name}: {' or '.join(values)}", is_read)


def unread_settings(section: BaseModel, consistency_view: ConsistencyView = "strong") -> dict[str, str]:
    """Return the settings of a section that are not read: dotted name -> the condition under which they are.

    A subsection that is not read at all is listed as a whole.

    Args:
        section: the section.
        consistency_view: consistency view of the chosen algorithm.
    """
    unread: dict[str, str] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        missing = [mark for mark in field.metadata if not _is_read(mark, section, consistency_view)]
        if missing:
            unread[name] = missing[0].when
        elif isinstance(value, BaseModel):
            unread |= {f"{name}.{inner}": when for inner, when in unread_settings(value, consistency_view).items()}
    return unread


def _is_read(mark: Any, section: BaseModel, consistency_view: ConsistencyView) -> bool:
    if isinstance(mark, ReadWhen):
        return mark.is_read(section)
    return consistency_view in mark.views if isinstance(mark, ReadBy) else True


def read_settings(section: BaseModel, consistency_view: ConsistencyView = "strong") -> dict[str, Any]:
    """Return the settings of a section that are read, JSON-like; see `unread_settings`.

    The origin of a plug-in is added to its name, under the key `plug-in`.
    """
    settings = section.model_dump(mode="json")
    _add_origins(settings, section)
    for path in unread_settings(section, consistency_view):
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
