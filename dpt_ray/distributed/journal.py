"""The actor through which trials of a search get their jobs and send their messages."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dpt_ray.distributed.background import RepeatedCall
from dpt_ray.distributed.job_log import tell
from dpt_ray.distributed.watching_actor import ActorLostError, KeptActor, Mailbox

READ_SECONDS = 1.0
"""Interval in which the messages of trials are read."""
STOP_POLL_SECONDS = 0.2
"""Between two questions whether trials have stopped."""
JOB_SECONDS = 120.0
"""Longest time in which a trial waits for its job, while a journal that has died is replaced."""


class Journal:
    """Holds the jobs of trials and collects their messages; runs as one actor."""

    def __init__(self) -> None:
        self._lines: list[tuple[str, str]] = []
        self._jobs: dict[str, object] = {}
        self._stop_reason: str | None = None
        self._left: set[str] = set()

    def put_job(self, name: str, job: object) -> None:
        """Keep a job until `drop_job`."""
        self._jobs[name] = job

    def job(self, name: str) -> object:
        """Return a job.

        Raises:
            ValueError: the journal does not have it, or not yet.
        """
        if name not in self._jobs:
            raise ValueError(f"no job {name}")
        return self._jobs[name]

    def drop_job(self, name: str) -> None:
        """Forget a job."""
        self._jobs.pop(name, None)

    def stop(self, reason: str) -> None:
        """Let all trials store a checkpoint of their training and stop.

        Args:
            reason: why, as a clause.
        """
        self._stop_reason = reason

    def stop_reason(self) -> str | None:
        """Return why the trials shall stop; None if they shall not."""
        return self._stop_reason

    def leave(self, name: str) -> None:
        """Note that a trial has stopped."""
        self._left.add(name)

    def left(self) -> set[str]:
        """Return the names of the trials that have stopped."""
        return self._left

    def write(self, name: str, text: str) -> None:
        """Add a trial's message."""
        self._lines.append((name, text))

    def take(self) -> list[tuple[str, str]]:
        """Remove and return all messages."""
        lines, self._lines = self._lines, []
        return lines


def job_of(journal: Mailbox, name: str) -> Any:
    """Return a trial's job; a trial calls it.

    Raises:
        ActorLostError: there is no journal that has it.
    """
    return journal.ask(Journal.job, name, seconds=JOB_SECONDS)


class KeptJournal:
    """The journal of a search. If its actor dies, another one gets the jobs; messages that were not read are lost.

    As a context it passes the messages to `say`, in a thread.

    Args:
        say: receives the name of a trial and a message.
    """

    def __init__(self, say: Callable[[str, str], None]):
        self._say = say
        self._actor = KeptActor(Journal)
        self._jobs: dict[str, object] = {}
        self._lock = threading.Lock()
        self._repeated = RepeatedCall(self._read, READ_SECONDS)

    @property
    def mailbox(self) -> Mailbox:
        """Reaches the journal from trials."""
        return self._actor.mailbox

    def put_job(self, name: str, job: object) -> None:
        """Keep a job for a trial until `drop_job`."""
        with self._lock:
            self._jobs[name] = job
            self.mailbox.send(Journal.put_job, name, job)

    def drop_job(self, name: str) -> None:
        """Forget the job of a trial that has ended."""
        with self._lock:
            self._jobs.pop(name, None)
            self.mailbox.send(Journal.drop_job, name)

    def stop_trials(self, reason: str, seconds: float) -> int:
        """Let all trials stop with a checkpoint, and wait for them; return how many did not stop in time.

        Args:
            reason: why, as a clause.
            seconds: longest time to wait.
        """
        deadline = time.monotonic() + seconds
        running = set(self._jobs)
        while running and time.monotonic() < deadline:
            self.mailbox.send(Journal.stop, reason)  # again, since another journal may have replaced it
            with suppress(ActorLostError):
                answers = self._actor.ask((Journal.left, ()))
                running -= answers[0] if answers else set()
            time.sleep(STOP_POLL_SECONDS)
        return len(running)

    def __enter__(self) -> "KeptJournal":
        self._repeated.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._repeated.__exit__(*exception)

    def _read(self) -> None:
        try:
            answers = self._actor.ask((Journal.take, ()))
        except ActorLostError:
            tell("warning: the search's journal died and is started again; the trials continue", level="warning")
            with self._lock:
                for name, job in self._jobs.items():
                    self.mailbox.send(Journal.put_job, name, job)
            return
        for name, text in answers[0] if answers else ():
            self._say(name, text)
