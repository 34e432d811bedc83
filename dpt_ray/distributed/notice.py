"""Notices of preemption: a process or its node is about to be taken away, so a training stores a checkpoint and stops.

There are three. The driver gets SIGTERM, which raises `PreemptedSignal` in its main thread. A training worker gets
SIGTERM. Or Ray drains the node of a worker. A `Notice` of each worker says whether one of them has come; the training
loop lets all workers stop after the same step.

A trial of a search is no driver, but it starts trainings as one does. Its notice stands in `trial_notice`.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType

SIGTERM_REASON = "the job got SIGTERM"
GROWTH_REASON = "nodes host more workers"
"""Reasons that the driver and Ray Train's controller give."""

_sigterm = threading.Event()
"""Set by SIGTERM in a training worker."""


job_terminated = threading.Event()
"""Set by SIGTERM in the driver. Where that interrupts a wait within Ray, Ray raises a KeyboardInterrupt of its own."""


class PreemptedSignal(KeyboardInterrupt):
    """SIGTERM has interrupted the main thread of a job, as Ctrl-C does, or a trial of a search shall stop."""


@dataclass(frozen=True)
class Stopped:
    """What training workers return when they have stopped after a notice.

    Attributes:
        images: images seen at the checkpoint that they have stored.
        reason: why they stopped, as the first worker knows it.
    """

    images: int
    reason: str | None = None


class Notice:
    """Says whether a training shall stop, and why. Any thread may give notice; only the first reason counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given = threading.Event()
        self._reason: str | None = None

    def give(self, reason: str) -> None:
        """Let the training stop.

        Args:
            reason: why, as a clause.
        """
        with self._lock:
            self._reason = self._reason or reason
        self._given.set()

    @property
    def reason(self) -> str | None:
        """Why the training shall stop; None if it shall not."""
        if _sigterm.is_set():
            return self._reason or "its process got SIGTERM"
        return self._reason

    @property
    def is_given(self) -> bool:
        """Whether the training shall stop."""
        return self._given.is_set() or _sigterm.is_set()


_of_trial: ContextVar[Notice | None] = ContextVar("notice of the trial", default=None)


@contextmanager
def in_trial(notice: Notice) -> Iterator[None]:
    """Let `notice` stop what starts within the context, which is a trial of a search."""
    token = _of_trial.set(notice)
    try:
        yield
    finally:
        _of_trial.reset(token)


def trial_notice() -> Notice | None:
    """Return the notice of the trial that runs here; None outside of trials."""
    return _of_trial.get()


def leave_preempted_trial() -> None:
    """Leave a trial that shall stop.

    Raises:
        PreemptedSignal: it shall stop.
    """
    notice = trial_notice()
    if notice is not None and notice.is_given:
        raise PreemptedSignal


def heed_sigterm() -> None:
    """Take SIGTERM as a notice in this process, which must be a training worker's. A second one has the old effect.

    It does nothing outside the main thread, where no handler can be set.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(signal.SIGTERM)

    def note(number: int, frame: FrameType | None) -> None:
        if _sigterm.is_set() and callable(before):
            before(number, frame)
        _sigterm.set()

    signal.signal(signal.SIGTERM, note)
