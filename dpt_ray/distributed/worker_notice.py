"""How a training worker learns of a preemption: from SIGTERM, from Ray, and from the driver by way of the board."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from dpt_ray.distributed.background import RepeatedCall
from dpt_ray.distributed.board import Board
from dpt_ray.distributed.events import STOP_REQUESTED, Event
from dpt_ray.distributed.notice import Notice, heed_sigterm
from dpt_ray.distributed.ray_internals import WorkerCallback, preempted_nodes
from dpt_ray.distributed.training_job import WorkerSetup
from dpt_ray.distributed.watching_actor import ActorLostError, Mailbox

ASK_SECONDS = 1.0
"""Between two looks."""


class HeedSigterm(WorkerCallback):
    """Lets a worker take SIGTERM as a notice. Ray Train calls it in the worker's main thread."""

    def after_init_train_context(self) -> None:
        """Set the handler."""
        heed_sigterm()


@contextmanager
def noticing(setup: WorkerSetup, rank: int) -> Iterator[Notice]:
    """Return the notice of a training worker, which is looked for within the context.

    In the process of the job there is nothing to look for: the notice is that of the setup.
    """
    if setup.notice is not None:
        yield setup.notice
        return
    notice, mailbox = Notice(), Mailbox(setup.board.name)
    with RepeatedCall(partial(_look, notice, mailbox, setup.title, rank == 0), ASK_SECONDS):
        yield notice


def _look(notice: Notice, mailbox: Mailbox, title: str, is_first: bool) -> None:
    """Give notice if Ray or the driver does; only the first worker asks for the driver's."""
    if notice.is_given:
        return
    if nodes := preempted_nodes():
        notice.give(f"the node {', '.join(name[:8] for name in nodes)} is about to be reclaimed")
    elif is_first and _driver_stops(mailbox, title):
        notice.give("the job got SIGTERM")


def _driver_stops(mailbox: Mailbox, title: str) -> bool:
    try:
        return bool(mailbox.ask(Board.is_stopped, title, seconds=ASK_SECONDS))
    except ActorLostError:  # another board is being started
        return False


def requested(notice: Notice, rank: int) -> Event:
    """Return the event of a worker that has got a notice."""
    reason = notice.reason or ""
    return Event(STOP_REQUESTED, f"worker {rank + 1} stops with a checkpoint, since {reason}", {"reason": reason})
