"""How every verb ends: its exit status, and one line for an error."""

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
    """Call what a verb does; return the exit status. Errors become one line."""
    try:
        job()
        return 0
    except UserError as error:
        return mistake(error)
    except KeyboardInterrupt:
        return interrupted()
    except Exception as error:
        if cause := user_error(error):
            return mistake(cause)
        if not job_log.wants_json():
            print(redacted(traceback.format_exc()), file=sys.stderr, end="")
        _complain(
            f"error: {type(error).__name__}: {redacted(' '.join(str(error).split()))[:500]}",
            traceback=redacted(traceback.format_exc()),
        )
        return FAILURE


def mistake(error: UserError) -> int:
    """Print what the user can mend; return the exit status."""
    _complain(f"error: {error}")
    return USER_MISTAKE


def interrupted() -> int:
    """Print that the job was interrupted; return the exit status."""
    _complain("interrupted: the same command goes on from here")
    return INTERRUPTED


def _complain(text: str, **fields: str) -> None:
    job_log.tell(text, level="error", event="error", stream=sys.stderr, **fields)
