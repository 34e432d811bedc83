"""How a training worker learns of a preemption: from SIGTERM, from Ray, and from the driver by way of the board."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from dpt_ray.distributed.background import RepeatedCall
from dpt_ray.distributed.board import Board
from dpt_ray.distributed.events import STOP_REQUESTED, Event
from dpt_ray.distributed.notice import Notice, heed_sigterm
from dpt_ray.distributed.ray_internals import WorkerCallback, preempted_nodes
from dpt_ray.distributed.training_job import WorkerSetup
from dpt_ray.distributed.watching_actor import ActorLostError, Mailbox

ASK_SECONDS = 1.0
"""Between two questions."""


class WorkerNotice(Notice):
    """The notice of a worker of Ray Train, which Ray gives by a field of the worker's context."""

    @property
    def is_given(self) -> bool:
        """Whether the training shall stop; it is looked at once a step."""
        if not super().is_given and (nodes := preempted_nodes()):
            self.give(f"node {', '.join(name[:8] for name in nodes)} is about to be reclaimed")
        return super().is_given


class HeedSigterm(WorkerCallback):
    """Lets a worker take SIGTERM as a notice. Ray Train calls it in the worker's main thread."""

    def after_init_train_context(self) -> None:
        """Set the handler."""
        heed_sigterm()


@contextmanager
def noticing(setup: WorkerSetup, rank: int) -> Iterator[Notice]:
    """Return the notice of a training worker. Within the context the first worker asks for that of the driver.

    In the process of the job there is nothing to look for: the notice is that of the setup.
    """
    if setup.notice is not None:
        yield setup.notice
        return
    notice = WorkerNotice()
    if rank > 0:
        yield notice
        return
    with RepeatedCall(partial(_ask, notice, Mailbox(setup.board.name), setup.title), ASK_SECONDS):
        yield notice


def _ask(notice: Notice, mailbox: Mailbox, title: str) -> None:
    """Give notice if the driver does."""
    with suppress(ActorLostError):  # another board is being started
        if not notice.is_given and (reason := mailbox.ask(Board.stop_reason, title, seconds=ASK_SECONDS)):
            notice.give(reason)


def requested(notice: Notice, rank: int) -> Event:
    """Return the event of a worker that has got a notice."""
    reason = notice.reason or ""
    return Event(STOP_REQUESTED, f"worker {rank + 1} stops with a checkpoint, since {reason}", {"reason": reason})
