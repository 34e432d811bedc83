"""Run a command in a child process, and say so if the child ends without a word.

Ray's library ends a process at once, with status 1 and without a word, when the connection to its object store breaks:
the store lives in the raylet, and a job that waits for results of inference loses both together. Nothing in that
process can prevent it. Neither can a process that the kernel kills for lack of memory say anything.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable

from dpt_ray.cli.guard import FAILURE, report_user_error
from dpt_ray.cli.repeated_signals import counted_once
from dpt_ray.errors import TryAgainError

FORWARDED = (signal.SIGINT, signal.SIGTERM)
CRASHES = (signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
_PR_SET_PDEATHSIG = 1


def supervised(run: Callable[[], int]) -> int:
    """Call `run` in a child process, and end this process with the exit status of the child.

    The child has the terminal, the process group and the signals of this process, and dies with it. A child that ended
    silently or by a crash becomes one line and status 75. `run` is called in this process if that has threads, which a
    child would lack, and where there is no Linux.

    Args:
        run: returns an exit status.

    Returns:
        The exit status, in the child.
    """
    if sys.platform != "linux" or threading.active_count() > 1:
        return run()
    told, tell = os.pipe()
    parent = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where a parent ignored it, the end of the child would be lost
    child = os.fork()
    if child:
        os.close(tell)
        status = _status(_end_of(child), is_told=_has_content(told))
        os._exit(status)  # what is left to do at the exit, the child has done
    os.close(told)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before it could be watched
        os._exit(FAILURE)
    interrupt = signal.getsignal(signal.SIGINT)
    if callable(interrupt):
        signal.signal(signal.SIGINT, counted_once(interrupt))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    try:
        return run()
    finally:
        os.write(tell, b"1")  # however it ends, Python ends it


def _end_of(child: int) -> int:
    """Forward signals to a child until it ends; return its wait status.

    Signals stay blocked and are fetched: a Python handler would not run if its signal came just before `waitpid`.
    """
    awaited = {signal.SIGCHLD, *(number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN)}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        number = signal.sigwait(awaited)
        if number != signal.SIGCHLD:
            os.kill(child, number)


def _has_content(pipe: int) -> bool:
    """Whether something was written to a pipe. A process that the child has forked may still hold its other end."""
    os.set_blocking(pipe, False)
    try:
        return os.read(pipe, 1) != b""
    except BlockingIOError:
        return False


def _status(ended: int, *, is_told: bool) -> int:
    """Return the exit status for a child's wait status; end this process by the signal that ended the child."""
    status = os.waitstatus_to_exitcode(ended)
    if status == FAILURE and not is_told:
        return report_user_error(TryAgainError("Ray's node manager (raylet) died, and Ray ended this job with it"))
    if status >= 0:
        return status
    if -status in CRASHES:
        what = f"the job's process was ended by {signal.Signals(-status).name}"
        fix = "if it ends again, it may lack memory: lower the batch, or run fewer jobs on this machine at a time"
        return report_user_error(TryAgainError(what, fix=fix))
    signal.signal(-status, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {-status})
    os.kill(os.getpid(), -status)
    return FAILURE
