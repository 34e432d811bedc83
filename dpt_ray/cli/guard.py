"""Turn the end of a verb into an exit status, and an error into one line."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

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
        with _terminable():
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


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM interrupt the main thread as Ctrl-C does: contexts are left, and claims are given back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def end_quietly() -> None:
    """Let an interrupted process end without what Ray's processes and threads say while they are ended."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave Ray's processes behind
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


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
