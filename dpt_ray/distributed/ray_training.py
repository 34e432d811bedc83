"""Training with Ray Train: starts the workers, and goes on after failures."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from threading import Event
from typing import Any

from dpt_ray import plugins
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING, SkipPolicy
from dpt_ray.distributed.board import Board, BoardWatcher
from dpt_ray.distributed.checkpoints import (
    CHECKPOINT_FOLDER,
    KEPT,
    begin_attempt,
    images_of,
    run_storage,
)
from dpt_ray.distributed.evaluation_callback import EvaluationCallback
from dpt_ray.distributed.events import preempted, restarted
from dpt_ray.distributed.failures import user_error
from dpt_ray.distributed.fit_in_thread import fit_in_thread
from dpt_ray.distributed.lost_ray import lost_ray
from dpt_ray.distributed.notice import GROWTH_REASON, Notice, Stopped
from dpt_ray.distributed.preview import Preview
from dpt_ray.distributed.progress import ProgressLine
from dpt_ray.distributed.resources import Resources, training_wish, trains_in_this_process
from dpt_ray.distributed.shared_cluster import runs_here
from dpt_ray.distributed.skipped_log import open_skipped_log
from dpt_ray.distributed.training_job import TrainingJob, WorkerSetup
from dpt_ray.distributed.training_worker import SETUP, Complaint, run_worker
from dpt_ray.distributed.wait_for_nodes import requested_nodes
from dpt_ray.distributed.watching_actor import ANSWER_SECONDS, ActorLostError, Mailbox
from dpt_ray.distributed.worker_failures import (
    MORE_OFTEN,
    FailureCount,
    forget_failures,
    is_preemption,
    own_error,
    worker_failures,
)
from dpt_ray.errors import TryAgainError, UserError


def run_training(
    job: TrainingJob,
    *,
    resources: Resources,
    progress: ProgressLine,
    policy: SkipPolicy = TOLERATE_NOTHING,
    callback: EvaluationCallback | None = None,
    preview: Preview | None = None,
) -> None:
    """Train to the end, resuming from the newest whole checkpoint if the same job was begun before.

    Shards that cannot be read and may be left out are listed in the folder (`skipped_log.py`).

    Args:
        job: the training.
        resources: the number of workers, and what each reserves.
        progress: shows how far the training is.
        policy: the share of images that may be left out.
        callback: evaluates the network while it trains.
        preview: draws pictures of the network while it trains.

    Raises:
        UserError: the data are damaged, a loss is not finite, the checkpoints belong to another network, or results
            cannot be written.
    """
    here = trains_in_this_process(job.cluster)
    left = begin_attempt(job.folder)
    forget_failures(job.folder)
    readers = _open_readers(job, resources, policy, in_workers=not here)
    with progress, BoardWatcher(progress, callback.report if callback else None) as watcher:
        setup = WorkerSetup(
            job=job,
            readers=readers,
            threads=resources.threads,
            board=watcher.mailbox,
            title=progress.title,
            left=left,
            callback=replace(callback, report=_report_nothing) if callback else None,
            preview=preview,
            plugins=plugins.registered(),
            stop=Event() if here else None,
            notice=Notice() if here else None,
        )
        progress.begin()
        if here:
            progress.count_workers(1)
        with _room_to_grow(job, resources):
            complaint = _fit_to_the_end(setup, resources, progress)
        progress.end()
    if complaint:
        what, where, fix = complaint
        raise UserError(what, where=where or progress.title, fix=fix)


def _room_to_grow(job: TrainingJob, resources: Resources) -> AbstractContextManager[None]:
    """Return a context that requests nodes for the most workers of a range.

    Only one request holds for a cluster, so jobs that share one make none.
    """
    if not isinstance(job.cluster.workers, tuple) or runs_here() > 1:
        return nullcontext()
    return requested_nodes({"CPU": resources.cpus, "GPU": resources.gpus}, job.cluster.worker_counts(job.data.lanes)[0])


def _open_readers(job: TrainingJob, resources: Resources, policy: SkipPolicy, *, in_workers: bool) -> Mapping[str, Any]:
    """Return, for each source, what is kept of it or how it is streamed."""
    from dpt_ray.distributed.reading import is_kept, open_source

    keep_bytes = job.cluster.keep_mib * 2**20
    images_in = sum(source.num_images for source, _ in job.sources.values())
    streaming = sum(not is_kept(source, keep_bytes) for source, _ in job.sources.values())
    open_one = partial(
        open_source,
        keep_bytes=keep_bytes,
        streams=max(1, resources.processes * streaming),
        training=resources,
        in_workers=in_workers,
        on_unreadable=open_skipped_log(job.folder, policy, images_in),
    )
    return {name: open_one(source) for name, (source, _) in job.sources.items()}


def _fit_to_the_end(setup: WorkerSetup, resources: Resources, progress: ProgressLine) -> Complaint | None:
    """Train, and again from the newest checkpoint after failures and preemptions; return what `run_worker` returns.

    Raises:
        TryAgainError: the controller or a worker died too often without progress, or Ray itself died.
        UserError: a disk failed, or memory was not enough.
        PreemptedSignal: this process got SIGTERM, or the trial that it runs shall stop.
        Exception: the error of a worker.
    """
    from ray.exceptions import RayActorError
    from ray.train import PreemptionError, WorkerGroupError

    count = FailureCount(setup.job.cluster.max_failures)
    while True:
        failure: Exception | None = None
        stopped: Stopped | None = None
        try:
            returned: Complaint | Stopped | None = fit_in_thread(
                _trainer(setup, resources), setup, progress
            ).return_value
            if not isinstance(returned, Stopped):
                return returned
            stopped = returned
        except (PreemptionError, RayActorError, WorkerGroupError) as error:
            failure = error
        except Exception as error:
            raise user_error(error) or lost_ray() or error from error
        setup = replace(setup, left=begin_attempt(setup.job.folder))
        images = images_of(setup.left)
        if failure is None or is_preemption(failure):
            if stopped is None or stopped.reason != GROWTH_REASON:
                progress.report(preempted(images))
            continue
        what = _describe(failure)
        if not count.is_tolerated(images):
            raise _final(failure) from failure
        progress.report(restarted(images, count.failures, what))


def _describe(failure: Exception) -> str:
    """Return what ended an attempt, and remove what a dead controller has left.

    Raises:
        TryAgainError: Ray itself died.
        UserError: the controller found something that the user can correct.
    """
    from ray.exceptions import RayActorError

    from dpt_ray.distributed.ray_internals import remove_groups_of

    if not isinstance(failure, RayActorError):
        if lost := lost_ray():
            raise lost from failure
        error = own_error(worker_failures(failure))
        return (
            error.what.removesuffix(MORE_OFTEN) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        )
    if known := user_error(failure) or lost_ray():
        raise known from failure
    if failure.actor_id is not None:
        remove_groups_of(failure.actor_id)
    return "Ray Train's controller died"


def _final(failure: Exception) -> Exception:
    """Return the error of a training that failed too often without progress."""
    failures = worker_failures(failure)
    if not failures:
        return TryAgainError(f"Ray Train's controller died{MORE_OFTEN}")
    return user_error(failure) or own_error(failures)


def _trainer(setup: WorkerSetup, resources: Resources) -> Any:
    """Return Ray Train's trainer, whose workers run `run_worker` with `setup`."""
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from dpt_ray.distributed.worker_notice import HeedSigterm

    callbacks = [*_placement(setup, resources), HeedSigterm()]  # none is called in the local mode
    return TorchTrainer(
        run_worker,  # type: ignore[arg-type]  # Ray annotates None, and passes on what is returned
        train_loop_config={SETUP: setup},
        torch_config=TorchConfig(timeout_s=round(setup.job.cluster.collective_seconds)),
        scaling_config=ScalingConfig(
            num_workers=resources.processes if setup.stop is None else _LOCAL_MODE,
            use_gpu=resources.gpus > 0,
            resources_per_worker={"CPU": resources.cpus, **({"GPU": resources.gpus} if resources.gpus else {})},
        ),
        run_config=RunConfig(
            name=CHECKPOINT_FOLDER,
            callbacks=callbacks,
            checkpoint_config=CheckpointConfig(num_to_keep=KEPT),
            **run_storage(setup.job.folder),
            failure_config=FailureConfig(
                max_failures=0,  # `_fit_to_the_end` counts them, and goes on after a preemption
                max_preemption_failures=0,  # type: ignore[call-arg]  # the stubs are of Ray Train's first version
                # Without a limit here: `PlaceWorkers` counts failed starts, and limits the time to wait.
                controller_failure_limit=-1,
            ),
        ),
    )


_LOCAL_MODE = 0
"""The number of workers for which Ray Train trains in the calling process."""


def _placement(setup: WorkerSetup, resources: Resources) -> list[Any]:
    """Return the callbacks that place the workers at each of their starts, and that look for nodes for more of them."""
    from dpt_ray.distributed.grow_workers import GrowWorkers
    from dpt_ray.distributed.placed_workers import PlaceWorkers

    cluster, board, title = setup.job.cluster, setup.board.name, setup.title
    wish = training_wish(cluster, setup.job.data.lanes).shared(runs_here())
    started = partial(_tell, board, Board.start, title)
    place = PlaceWorkers(wish, resources.cpus, cluster.wait_seconds, setup.notes(), started)
    if not wish.fewer:
        return [place]
    return [place, GrowWorkers(wish, cluster.grow_seconds, partial(_tell, board, Board.stop, title, GROWTH_REASON))]


def _tell(board: str, message: Callable[..., object], *arguments: object) -> None:
    """Send a message, which may come twice, to the board of this name, from any process; wait until it has come."""
    with suppress(ActorLostError):
        Mailbox(board).ask(message, *arguments, seconds=ANSWER_SECONDS)


def _report_nothing(share: float, score: float) -> None:
    """Replace a callback's `report` in workers, which report through the board; it need not pickle then."""
