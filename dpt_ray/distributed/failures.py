"""From what Ray raises back to the one cause."""

from collections.abc import Iterator

from dpt_ray.errors import UserError


def user_error(error: BaseException) -> UserError | None:
    """Return the `UserError` that caused `error`, wherever Ray's wrappers put it; None if there is none."""
    from ray.exceptions import RayTaskError  # such an error also passes for what it wraps, with a traceback as its text

    found = (cause for cause in causes(error) if isinstance(cause, UserError) and not isinstance(cause, RayTaskError))
    return next(found, None)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and all that it wraps, outermost first."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = [current.__cause__, current.__context__, getattr(current, "cause", None)]
        failures = getattr(current, "worker_failures", None)  # ray.train's WorkerGroupError: rank -> exception
        inner += list(failures.values()) if isinstance(failures, dict) else []
        waiting += [cause for cause in inner if isinstance(cause, BaseException)]
