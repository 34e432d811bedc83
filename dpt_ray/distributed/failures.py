"""Finds the cause of an error that Ray raises."""

import sys
from collections.abc import Iterator

from dpt_ray.data.storage.faults import storage_fault
from dpt_ray.errors import UserError


def user_error(error: BaseException) -> UserError | None:
    """Return the `UserError` that caused `error`, in any of Ray's wrappers; None if there is none.

    A fault of a disk counts as one, whether Ray Train, Ray's object store or a library wrote to the disk.
    """
    found = (cause for cause in causes(error) if isinstance(cause, UserError) and not _is_ray_task_error(cause))
    # A fault that was being handled when another error occurred is left out: that error may be a mistake in the code.
    raised = reversed(list(causes(error, handled=False)))
    faults = (fault for cause in raised if (fault := _ray_disk_full(cause) or storage_fault(cause)))
    return next(found, None) or next(faults, None)


def _is_ray_task_error(error: BaseException) -> bool:
    """Whether an error is one of Ray's wrappers that inherit the type of the wrapped error; its text is a traceback."""
    if "ray" not in sys.modules:
        return False
    from ray.exceptions import RayTaskError

    return isinstance(error, RayTaskError)


def _ray_disk_full(error: BaseException) -> UserError | None:
    """Return an error of one line if Ray could not spill objects to the disk."""
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

    return ray.get_runtime_context().get_temp_dir() if ray.is_initialized() else "/tmp/ray"


def causes(error: BaseException, *, handled: bool = True) -> Iterator[BaseException]:
    """Yield `error` and the errors that it wraps, outermost first.

    Args:
        error: the error.
        handled: whether to include the errors that were being handled when one of these was raised.
    """
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
"""Attributes in which Ray's errors keep the errors that they wrap."""
