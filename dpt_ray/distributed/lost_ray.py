"""Notices that a part of Ray has died on which the whole job depends, so that the job ends at once and says so.

Ray's own libraries wait for a minute for a control store that has died, and then end the process with messages for
developers. Nothing is lost with it: the same command resumes.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from dpt_ray.errors import TryAgainError

POLL_SECONDS = 0.5
CLUSTER_POLL_SECONDS = 3.0
"""As `POLL_SECONDS`, for a cluster that this process has joined: each poll is a request to the control store."""
SILENT_SECONDS = 8.0
"""Time without an answer after which a part of a cluster counts as dead."""
GRACE_SECONDS = 4.0
"""Time that an interrupted job has to leave its contexts, which may wait for the dead part of Ray."""


def outlive_raylet() -> None:
    """Let this process live on when its raylet dies; it has an effect only before Ray is imported.

    Ray ends a process whose connection to its raylet breaks at once, without a word and with status 1, if the raylet is
    dead. A worker has been told which process that is. Of a driver Ray looks at the parent, and takes process 1 (after
    `nohup`, in a container) for the sign of death. So a driver names itself.
    """
    os.environ.setdefault("RAY_RAYLET_PID", str(os.getpid()))


def lost_ray() -> TryAgainError | None:
    """Return the error of a job whose local Ray has lost a part; None if it has not, or there is no local Ray."""
    if not is_connected():
        return None
    from dpt_ray.distributed import ray_internals

    part = ray_internals.dead_part()
    return TryAgainError(f"Ray's {part} died") if part else None


def is_connected() -> bool:
    """Whether this process is connected to Ray; another thread may be importing Ray at the moment."""
    is_initialized = getattr(sys.modules.get("ray"), "is_initialized", None)
    return is_initialized is not None and bool(is_initialized())


class RayWatch:
    """Interrupts the main thread, as Ctrl-C does, if a part of Ray dies within the context.

    In another thread than the main one it does nothing.

    Args:
        end: ends the process with an error; called if the context is not left in time.
    """

    def __init__(self, end: Callable[[TryAgainError], None]):
        self._end = end
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watch of Ray")
        self._silent_since: float | None = None
        self._ignored = False
        self.error: TryAgainError | None = None
        """Why the main thread was interrupted."""

    def __enter__(self) -> "RayWatch":
        outlive_raylet()
        if threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as for `dpt ... &` in a script of a shell
                signal.signal(signal.SIGINT, self._raise_if_lost)
                self._ignored = True
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._left.set()
        if self._ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _raise_if_lost(self, number: int, frame: FrameType | None) -> None:
        if self.error is not None:
            raise KeyboardInterrupt

    def _watch(self) -> None:
        asked = 0.0
        while not self._left.wait(POLL_SECONDS):
            error = lost_ray()
            if error is None and time.monotonic() - asked > CLUSTER_POLL_SECONDS:
                error = self._lost_cluster()
                asked = time.monotonic()
            if error is not None:
                self._interrupt(error)
                return

    def _interrupt(self, error: TryAgainError) -> None:
        self.error = error
        main = threading.main_thread().ident
        if main is not None and not self._left.is_set():
            signal.pthread_kill(main, signal.SIGINT)  # it also wakes a thread that waits for a lock
        if not self._left.wait(GRACE_SECONDS):
            self._end(error)

    def _lost_cluster(self) -> TryAgainError | None:
        """Return the error if a part of a cluster that this process has joined is dead for too long."""
        if not is_connected():
            return None
        from dpt_ray.distributed import ray_internals

        part = ray_internals.silent_part(seconds=CLUSTER_POLL_SECONDS)
        if part is None:
            self._silent_since = None
            return None
        now = time.monotonic()
        self._silent_since = self._silent_since or now
        if now - self._silent_since < SILENT_SECONDS:
            return None
        return TryAgainError(f"Ray's {part} does not answer")
