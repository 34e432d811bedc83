"""The semi-supervised algorithms: one in each module, called as the module is, and those of plug-ins."""

import difflib
import importlib
import pkgutil
from functools import cache

from pydantic import ValidationError

from dpt_ray import plugins
from dpt_ray.config.classifier_section import AlgorithmConfig
from dpt_ray.config.complaints import describe
from dpt_ray.config.section import Section
from dpt_ray.core.semi_supervised.algorithm import Algorithm
from dpt_ray.errors import UserError


@cache
def algorithm_names() -> tuple[str, ...]:
    """Return the names of all built-in algorithms, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def algorithm_class(name: str, where: str = "algorithm.name") -> type[Algorithm]:
    """Return the algorithm called `name`.

    Raises:
        UserError: no algorithm has this name (the message contains the nearest one), or it is a plug-in that cannot be
            used.
    """
    if plugins.find("algorithms", name) is not None:
        return plugins.load_class("algorithms", name, Algorithm)
    if name not in algorithm_names():
        known = (*algorithm_names(), *plugins.names("algorithms"))
        raise UserError(f"unknown algorithm {name!r}", where=where, fix=_suggest(name, known))
    return importlib.import_module(f"{__name__}.{name}").ALGORITHM


def algorithm_settings(config: AlgorithmConfig, where: str = "algorithm") -> Section:
    """Return the checked settings of the algorithm `config.name`, with defaults.

    Raises:
        UserError: the algorithm or a setting is unknown, or a value is not allowed.
    """
    chosen = algorithm_class(config.name, f"{where}.name")
    try:
        return chosen.Settings.model_validate(config.model_extra)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = list(chosen.Settings.model_fields)
            fix = _suggest(name, known) if known else f"{config.name} has no settings besides its name"
            raise UserError(f"unknown setting {name!r} of {config.name}", where=where, fix=fix) from None
        raise UserError(describe(first), where=where) from None


def _suggest(name: str, known: list[str] | tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"there are: {', '.join(known)}"
