"""Turn the end of a verb into an exit status, and an error into one line."""

import sys
import traceback
from collections.abc import Callable

from dpt_ray.config.places import redacted
from dpt_ray.distributed import job_log
from dpt_ray.distributed.failures import user_error
from dpt_ray.errors import UserError

USER_MISTAKE, FAILURE, INTERRUPTED = 2, 1, 130
"""Exit statuses besides 0."""


def run_guarded(job: Callable[[], object]) -> int:
    """Call `job` and return the exit status. An error is printed as one line.

    Without JSON logs, a traceback precedes the line of an error that is not a `UserError`.
    """
    try:
        job()
        return 0
    except UserError as error:
        return report_user_error(error)
    except KeyboardInterrupt:
        return report_interruption()
    except Exception as error:
        if cause := user_error(error):
            return report_user_error(cause)
        if not job_log.wants_json():
            print(redacted(traceback.format_exc()), file=sys.stderr, end="")
        _print_error(
            f"error: {type(error).__name__}: {redacted(' '.join(str(error).split()))[:500]}",
            traceback=redacted(traceback.format_exc()),
        )
        return FAILURE


def report_user_error(error: UserError) -> int:
    """Print an error that the user can correct; return the exit status."""
    _print_error(f"error: {error}")
    return USER_MISTAKE


def report_interruption() -> int:
    """Print that the job was interrupted; return the exit status."""
    _print_error("interrupted: run the same command again to resume")
    return INTERRUPTED


def _print_error(text: str, **fields: str) -> None:
    job_log.tell(text, level="error", event="error", stream=sys.stderr, **fields)
