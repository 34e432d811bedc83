"""How a trial of a search learns that it shall stop: from the search, or since Ray drains the node of its process."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from dpt_ray.distributed.background import RepeatedCall
from dpt_ray.distributed.journal import Journal
from dpt_ray.distributed.notice import Notice, PreemptedSignal, in_trial
from dpt_ray.distributed.ray_internals import draining_nodes
from dpt_ray.distributed.trial_messages import TrialOutcome
from dpt_ray.distributed.watching_actor import ActorLostError, Mailbox

ASK_SECONDS = 1.0
"""Between two questions."""


def until_notice(body: Callable[[], TrialOutcome], journal: Mailbox, name: str) -> TrialOutcome:
    """Call the body of a trial, which a notice of preemption ends; return its outcome.

    Args:
        body: runs the trial.
        journal: of the search.
        name: of the trial.
    """
    began = time.monotonic()
    with _noticing(journal) as notice:
        try:
            return body()
        except PreemptedSignal:
            journal.send(Journal.leave, name)
            return TrialOutcome(round(time.monotonic() - began, 3), preempted=notice.reason)


@contextmanager
def _noticing(journal: Mailbox) -> Iterator[Notice]:
    """Return the notice of this process, a trial, which is looked for from a thread within the context."""
    import ray

    notice = Notice()
    look = partial(_look, notice, Mailbox(journal.name), ray.get_runtime_context().get_node_id())
    with RepeatedCall(look, ASK_SECONDS), in_trial(notice):
        yield notice


def _look(notice: Notice, journal: Mailbox, node: str) -> None:
    if notice.is_given:
        return
    with suppress(ActorLostError):  # another journal is being started
        if reason := journal.ask(Journal.stop_reason, seconds=ASK_SECONDS):
            notice.give(reason)
    if node in draining_nodes():
        notice.give(f"node {node[:8]} is about to be reclaimed")
