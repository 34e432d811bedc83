"""Turn the end of a verb into an exit status, and an error into one line."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from dpt_ray.cli.repeated_signals import counted_once
from dpt_ray.config.places import redacted
from dpt_ray.distributed import job_log
from dpt_ray.distributed.failures import user_error
from dpt_ray.distributed.local_ray import end_local_ray
from dpt_ray.distributed.lost_ray import RayWatch, lost_ray
from dpt_ray.distributed.notice import PreemptedSignal, job_terminated
from dpt_ray.errors import RESUME, TryAgainError, UserError

USER_MISTAKE, FAILURE, INTERRUPTED, TRY_AGAIN = 2, 1, 130, os.EX_TEMPFAIL
"""Exit statuses besides 0."""


def run_guarded(job: Callable[[], object]) -> int:
    """Call `job` and return the exit status. An error is printed as one line.

    Without JSON logs, a traceback precedes the line of an error that is not a `UserError`.
    """
    watch, terminated = RayWatch(_end_late), threading.Event()
    try:
        with _terminable(terminated), watch:
            job()
        return 0
    except UserError as error:
        return report_user_error(error)
    except KeyboardInterrupt:
        if terminated.is_set():  # from a wait within Ray comes a KeyboardInterrupt of Ray's own
            return report_preemption()
        return report_user_error(watch.error) if watch.error else report_interruption()
    except Exception as error:
        if cause := user_error(error) or lost_ray():
            return report_user_error(cause)
        if not job_log.wants_json():
            print(redacted(traceback.format_exc()), file=sys.stderr, end="")
        _print_error(
            f"error: {type(error).__name__}: {redacted(' '.join(str(error).split()))[:500]}",
            traceback=redacted(traceback.format_exc()),
        )
        return FAILURE


@contextmanager
def _terminable(terminated: threading.Event) -> Iterator[None]:
    """Let SIGTERM interrupt the main thread as Ctrl-C does: contexts are left, and claims are given back.

    A training stores a checkpoint first.

    Args:
        terminated: set when SIGTERM comes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        terminated.set()
        job_terminated.set()
        raise PreemptedSignal

    job_terminated.clear()
    before = signal.signal(signal.SIGTERM, counted_once(interrupt))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def leave(status: int) -> NoReturn:
    """End this process at once, with its local Ray, and without what Ray says when its processes are ended.

    Ray's own way out may wait for processes that are dead, or abort this one.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave Ray's processes behind
    _leave(status)


def _leave(status: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more, or it is closed
            stream.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    end_local_ray()
    os._exit(status)


def _end_late(error: TryAgainError) -> NoReturn:
    """End the process from another thread, since the main one waits for a part of Ray that is dead."""
    _leave(report_user_error(error))


def report_user_error(error: UserError) -> int:
    """Print an error that the user can correct, or that another attempt may not meet; return the exit status."""
    _print_error(f"error: {error}")
    return TRY_AGAIN if isinstance(error, TryAgainError) else USER_MISTAKE


def report_interruption() -> int:
    """Print that the job was interrupted; return the exit status."""
    _print_error(f"interrupted: {RESUME}")
    return INTERRUPTED


def report_preemption() -> int:
    """Print that SIGTERM ended the job; return the exit status."""
    text = f"preempted: {RESUME}"
    job_log.tell(text, level="warning", event="preempted", stream=sys.stderr)
    return TRY_AGAIN


def _print_error(text: str, **fields: str) -> None:
    job_log.tell(text, level="error", event="error", stream=sys.stderr, **fields)
