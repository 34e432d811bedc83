"""The methods of stage 0, one in each module, called as the module is."""

import importlib

from dpt_ray.core.self_supervised.method import Method


def method_class(name: str) -> type[Method]:
    """Return the method called `name`, one of those that `stage0.method` allows."""
    method: type[Method] = importlib.import_module(f"{__name__}.{name}").METHOD
    return method
