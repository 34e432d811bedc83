"""From what Ray raises back to the one cause."""

import sys
from collections.abc import Iterator
from typing import Any

from dpt_ray.data.storage.faults import storage_fault
from dpt_ray.errors import UserError


def user_error(error: BaseException) -> UserError | None:
    """Return the `UserError` that caused `error`, wherever Ray's wrappers put it; None if there is none.

    A disk that cannot be written is one, too, whoever wrote to it: Ray Train, Ray's object store, a library.
    """
    told = (cause for cause in causes(error) if isinstance(cause, UserError) and not _is_ray_task_error(cause))
    # Not what was handled when another error came: that one may be a mistake in the code.
    raised = reversed(list(causes(error, handled=False)))
    faults = (fault for cause in raised if (fault := _ray_disk_full(cause) or storage_fault(cause)))
    return next(told, None) or next(faults, None)


def _is_ray_task_error(error: BaseException) -> bool:
    """Whether it passes for what it wraps, with a traceback as its text."""
    if "ray" not in sys.modules:
        return False
    from ray.exceptions import RayTaskError

    return isinstance(error, RayTaskError)


def _ray_disk_full(error: BaseException) -> UserError | None:
    """Return in one line that Ray has no room to put objects on the disk."""
    if "ray" not in sys.modules:
        return None
    from ray.exceptions import OutOfDiskError

    if not isinstance(error, OutOfDiskError) and "OutOfDiskError" not in str(error):
        return None
    return UserError(
        "the disk of Ray's temporary folder is nearly full, and Ray's memory for objects is full as well",
        where=_ray_folder(),
        fix="free some space there, or start Ray with another --temp-dir; the same command then goes on",
    )


def _ray_folder() -> str:
    import ray

    try:
        node: Any = ray._private.worker._global_node  # which Ray annotates as None for ever
        return str(node.get_temp_dir_path())
    except AttributeError:  # not connected
        return "/tmp/ray"


def causes(error: BaseException, *, handled: bool = True) -> Iterator[BaseException]:
    """Yield `error` and all that it wraps, outermost first, and what was being handled when one of them was raised."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = [current.__cause__, current.__context__ if handled else None]
        inner += [getattr(current, name, None) for name in _WRAPPED]
        failures = getattr(current, "worker_failures", None)  # ray.train's WorkerGroupError: rank -> exception
        inner += list(failures.values()) if isinstance(failures, dict) else []
        waiting += [cause for cause in inner if isinstance(cause, BaseException)]


_WRAPPED = ("cause", "controller_failure", "health_check_failure", "_base_exc")
"""Where Ray's errors keep what they wrap."""
