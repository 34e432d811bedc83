"""Plug-ins: samplers, networks, data formats and algorithms from other distributions.

A distribution declares them as entry points of the groups `dpt_ray.samplers`, `dpt_ray.networks`, `dpt_ray.formats` and
`dpt_ray.algorithms`. Every process finds the plug-ins that are installed in its environment. In a notebook, `register`
adds a plug-in without a package. `docs/guide/developers.md` describes what each group expects.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any, Literal, TypeVar, get_args

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from dpt_ray.errors import UserError
from dpt_ray.text import one_line

Group = Literal["samplers", "networks", "formats", "algorithms"]
T = TypeVar("T")

_MEND = "repair, update or remove that package"


@dataclass(frozen=True)
class Plugin:
    """One plug-in.

    Attributes:
        group: what it extends.
        name: the value of the setting that selects it.
        origin: the distribution and its version, which enter the addresses of artifacts that it computes.
        load: imports and returns it; may raise any exception.
    """

    group: Group
    name: str
    origin: str
    load: Callable[[], Any]

    def __str__(self) -> str:
        return f"the plug-in {self.name!r} of {self.origin} (dpt_ray.{self.group})"


_registered: dict[tuple[str, str], Plugin] = {}


def register(group: Group, name: str, value: Any, version: str) -> None:
    """Register a sampler, network, data format or algorithm in this process and in the workers of its jobs.

    This is for notebooks, where no package is installed. Registering a name again replaces the earlier value.

    Args:
        group: "samplers", "networks", "formats" or "algorithms".
        name: the value of the setting that selects it.
        value: the object to which an entry point of the group would refer.
        version: enters the addresses of artifacts that the plug-in computes; change it when the code changes.

    Raises:
        UserError: there is no such group, or the name is that of a built-in or of an installed plug-in.
    """
    if group not in get_args(Group):
        raise UserError(f"unknown group of plug-ins {group!r}", fix=f"there are: {', '.join(get_args(Group))}")
    plugin = Plugin(group, name, f"registered {version}", lambda: value)
    _refuse_clash(plugin, _installed(group, tuple(sys.path)).get(name, ()))
    adopt([plugin])


def registered() -> list[Plugin]:
    """Return the plug-ins that were registered in this process, for `adopt` in other processes."""
    return list(_registered.values())


def adopt(plugins: Iterable[Plugin]) -> None:
    """Register plug-ins of another process in this one."""
    _registered.update({(plugin.group, plugin.name): plugin for plugin in plugins})


def names(group: Group) -> list[str]:
    """Return the sorted names of a group's plug-ins, including clashing names, which `find` refuses."""
    return sorted({*_installed(group, tuple(sys.path)), *(name for held, name in _registered if held == group)})


def find(group: Group, name: str) -> Plugin | None:
    """Return the plug-in of a name, without importing it; None if there is none.

    Raises:
        UserError: the name is also that of a built-in, or two distributions declare it.
    """
    found = [*_installed(group, tuple(sys.path)).get(name, ())]
    if (group, name) in _registered:
        found.append(_registered[group, name])
    if not found:
        return None
    _refuse_clash(found[0], found[1:])
    return found[0]


def origin_settings(group: Group, name: str) -> dict[str, str]:
    """Return the settings that identify the plug-in `name` in the address of an artifact; empty for built-ins."""
    plugin = find(group, name)
    return {"plug-in": plugin.origin} if plugin is not None else {}


def load_object(group: Group, name: str, kind: type[T]) -> T:
    """Return a plug-in that is an instance of `kind`.

    Raises:
        UserError: there is no plug-in of that name, it cannot be imported, or it is not an instance of `kind`.
    """
    plugin, value = _load(group, name)
    if not isinstance(value, kind):
        raise UserError(f"{plugin} is no instance of {kind.__module__}.{kind.__name__}", fix=_MEND)
    return value


def load_class(group: Group, name: str, base: type[T]) -> type[T]:
    """Return a plug-in that is a subclass of `base`.

    Raises:
        UserError: there is no plug-in of that name, it cannot be imported, or it is not a subclass of `base`.
    """
    plugin, value = _load(group, name)
    if not (isinstance(value, type) and issubclass(value, base)):
        raise UserError(f"{plugin} is no subclass of {base.__module__}.{base.__name__}", fix=_MEND)
    return value


def _load(group: Group, name: str) -> tuple[Plugin, Any]:
    plugin = find(group, name)
    if plugin is None:
        raise UserError(f"there is no plug-in {name!r} (dpt_ray.{group})", fix="install the package that brings it")
    try:
        return plugin, plugin.load()
    except Exception as error:  # the import of foreign code may raise anything
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"{plugin} cannot be imported ({reason})", fix=_MEND) from error


@cache
def _installed(group: Group, path: tuple[str, ...]) -> dict[str, list[Plugin]]:
    """Return the entry points of all distributions on a path, by name."""
    found: dict[str, list[Plugin]] = {}
    for entry in metadata.entry_points(group=f"dpt_ray.{group}"):
        origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unnamed package"
        found.setdefault(entry.name, []).append(Plugin(group, entry.name, origin, entry.load))
    return found


def _refuse_clash(plugin: Plugin, others: Iterable[Plugin]) -> None:
    if plugin.name in _built_in_names(plugin.group):
        raise UserError(f"{plugin} has the name of a built-in", fix="rename the plug-in, or remove its package")
    for other in others:
        raise UserError(f"{plugin} has the name of {other}", fix="rename one of them, or remove its package")


def _built_in_names(group: Group) -> Iterable[str]:
    # Imported here because these modules import this one. Only the module of algorithms needs torch.
    if group == "algorithms":
        from dpt_ray.core.semi_supervised.algorithms import algorithm_names

        return algorithm_names()
    from dpt_ray.config.schema import built_in_names

    return built_in_names(group)


@dataclass(frozen=True)
class OrPlugin:
    """Annotation of a setting that lists the built-ins of a group: the setting also accepts the group's plug-ins."""

    group: Group

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            self._validate, handler(source), serialization=core_schema.simple_ser_schema("str")
        )

    def _validate(self, value: Any, built_in: Callable[[Any], Any]) -> Any:
        if isinstance(value, str) and find(self.group, value) is not None:
            _load(self.group, value)  # a broken plug-in is reported before anything runs
            return str(value)
        try:
            return built_in(value)
        except ValidationError as error:
            plugins = ", ".join(map(repr, names(self.group)))
            if not plugins:
                raise
            expected = f"{error.errors()[0]['ctx']['expected']}, or a plug-in: {plugins}"
            raise PydanticKnownError("literal_error", {"expected": expected}) from None
