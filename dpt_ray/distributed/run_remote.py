"""Runs one function on the cluster, where a GPU may be, and returns its result."""

from collections.abc import Callable
from typing import Any, TypeVar

from dpt_ray.distributed.failures import user_error
from dpt_ray.distributed.resources import Resources

_Result = TypeVar("_Result")


def run_once(function: Callable[..., _Result], *arguments: Any, resources: Resources) -> _Result:
    """Call a function in one process with the resources of one process of `resources`.

    Raises:
        UserError: the function raised it.
    """
    import ray

    # Without "DEFAULT", the function would share the few resources that a trial of a search reserves for itself.
    placed = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=3, scheduling_strategy="DEFAULT")
    task = placed(_limited)
    try:
        return ray.get(task.remote(resources.threads, function, *arguments))
    except Exception as error:
        raise user_error(error) or error from error


def _limited(threads: int, function: Callable[..., _Result], *arguments: Any) -> _Result:
    import torch

    torch.set_num_threads(threads)
    return function(*arguments)
