"""Calls Ray Train in a thread, so that a notice of preemption interrupts the wait for it."""

from concurrent.futures import Future, wait
from threading import Thread
from typing import Any

import torch

from dpt_ray.distributed.board import Board
from dpt_ray.distributed.events import preempted
from dpt_ray.distributed.notice import (
    SIGTERM_REASON,
    PreemptedSignal,
    Stopped,
    leave_preempted_trial,
    trial_notice,
)
from dpt_ray.distributed.progress import ProgressLine
from dpt_ray.distributed.training_job import WorkerSetup

NOTICE_SECONDS = 0.5
"""Between two looks at the notice of a trial."""


def fit_in_thread(trainer: Any, setup: WorkerSetup, progress: ProgressLine) -> Any:
    """Train in a thread: in the main one Ray Train would take Ctrl-C, then and ever after, and exit without a word.

    Raises:
        PreemptedSignal: this process got SIGTERM, or the trial that it runs shall stop. The workers have stored a
            checkpoint if they could do so in time.
        Exception: any error of the training.
    """
    result: Future[Any] = Future()
    threads = torch.get_num_threads()

    def run() -> None:
        try:
            result.set_result(trainer.fit())
        except BaseException as error:
            result.set_exception(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        while trial_notice() is not None and not wait([result], NOTICE_SECONDS).done:
            leave_preempted_trial()
        return result.result()
    except PreemptedSignal:
        _stop_with_a_checkpoint(setup, result, progress)
        raise
    finally:
        if setup.stop is not None:  # otherwise nothing waits for the thread, since worker processes are killed
            setup.stop.set()
            thread.join()  # a thread that computes while Python ends would abort the process
            torch.set_num_threads(threads)


def _stop_with_a_checkpoint(setup: WorkerSetup, result: Future[Any], progress: ProgressLine) -> None:
    """Let the workers store a checkpoint, and wait until they have done so, or failed, or the time is over."""
    trial = trial_notice()
    reason = trial.reason if trial is not None and trial.reason else SIGTERM_REASON
    if setup.notice is not None:
        setup.notice.give(reason)
    else:
        setup.board.send(Board.stop, setup.title, reason)
    seconds = setup.job.cluster.preemption_seconds
    wait([result], seconds)
    returned = result.result().return_value if result.done() and result.exception() is None else None
    if isinstance(returned, Stopped):
        progress.report(preempted(returned.images))
    else:
        progress.warn(f"no checkpoint was stored within {seconds:g} s of the notice")
