"""Training with Ray Train: adds workers, data, checkpoints and progress to the loop in `core/training`."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from threading import Event, Thread
from typing import Any, TypeVar

import torch

from dpt_ray import plugins
from dpt_ray.config.schema import ClassifierConfig, ClusterConfig, DataConfig, GeneratorConfig
from dpt_ray.core.collective import agree, mean_over_workers
from dpt_ray.core.row_random import derive_seed
from dpt_ray.core.training.compute import check_compute, compile_network, keep_channels_last
from dpt_ray.core.training.loop import Pace, Schedule, train
from dpt_ray.core.training.nonfinite import NonFiniteLossError
from dpt_ray.core.training.sharding import shard
from dpt_ray.core.training.state import ForeignCheckpointError, TrainState
from dpt_ray.data.loading.feed import Feed, training_batches, worker_lanes
from dpt_ray.data.loading.order import ImageOrder
from dpt_ray.data.loading.source import ImageSource
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING, SkipPolicy
from dpt_ray.data.storage import stores
from dpt_ray.distributed.checkpoints import (
    CHECKPOINT_FOLDER,
    KEPT,
    CheckpointWriter,
    NotStoredError,
    Restored,
    begin_attempt,
    restore,
    run_storage,
    store_together,
)
from dpt_ray.distributed.cluster import Resources, runs_here, training_wish, trains_in_this_process
from dpt_ray.distributed.evaluation_callback import EvaluationCallback
from dpt_ray.distributed.failures import user_error
from dpt_ray.distributed.kept_state import keep_state
from dpt_ray.distributed.lost_ray import lost_ray
from dpt_ray.distributed.metrics import CHECKPOINT, CHECKPOINTS, DATA_WAIT, TRAINING, Metric
from dpt_ray.distributed.progress import Board, BoardWatcher, ProgressLine, TrainingProgress
from dpt_ray.distributed.skipped_log import open_skipped_log
from dpt_ray.distributed.starved_stream import Starvation
from dpt_ray.distributed.watching_actor import Mailbox
from dpt_ray.distributed.worker_failures import forget_failures, note_failure, own_error, recurring_failure
from dpt_ray.errors import TryAgainError, UserError
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.snapshots import snapshot_files

HISTORY_FILE = "history.json"
_Item = TypeVar("_Item")


def always() -> bool:
    """Return true: nobody can take the training over."""
    return True


@dataclass(frozen=True)
class TrainingJob:
    """A training as its workers need it. The sections of the settings travel whole.

    Attributes:
        config: the section of the stage: optimizer and precision.
        data: the section `data`: lanes and shuffle window of the data order.
        cluster: the section `cluster`: what is kept in memory, memory layout, compilation, gradient accumulation,
            sharding, and how many failures are tolerated.
        build: returns the state before the first step.
        finish: returns the file of the trained network.
        sources: source name -> its images, and their number in a step over all workers.
        schedule: where training ends, and when history rows, checkpoints and snapshots are due.
        seed: fixes the data order and every random number.
        folder: URL of the folder that gets the network and the history.
        owns: returns whether this job may still train there; another one may have taken over while it stood still.
    """

    config: ClassifierConfig | GeneratorConfig
    data: DataConfig
    cluster: ClusterConfig
    build: Callable[[], TrainState]
    finish: Callable[[TrainState], bytes]
    sources: dict[str, tuple[ImageSource, int]]
    schedule: Schedule
    seed: int
    folder: str
    owns: Callable[[], bool] = always


class TakenOverError(Exception):
    """Another job has taken this training over. All workers raise it."""


Complaint = tuple[str, str | None, str | None]
"""An error's description, its place if known, and its remedy if there is one."""


@dataclass(frozen=True)
class _WorkerSetup:
    """What every worker of a training receives.

    Attributes:
        job: the training.
        readers: source name -> what the process which started the training has kept, or how to stream the source.
        threads: threads of PyTorch in a worker.
        board: sends messages to the actor `Board`.
        title: name of the training on the board.
        left: names of the checkpoints of earlier attempts.
        callback: evaluates the network; its `report` does nothing, since workers report through the board.
        plugins: plug-ins that the process which started the training has registered.
        stop: set when the training shall end before the next step; None in a worker process, which is killed instead.
    """

    job: TrainingJob
    readers: Mapping[str, Any]
    threads: int
    board: Mailbox
    title: str
    left: Sequence[str]
    callback: EvaluationCallback | None
    plugins: Sequence[plugins.Plugin]
    stop: Event | None


def run_training(
    job: TrainingJob,
    *,
    resources: Resources,
    progress: ProgressLine,
    policy: SkipPolicy = TOLERATE_NOTHING,
    callback: EvaluationCallback | None = None,
) -> None:
    """Train to the end, resuming from the newest whole checkpoint if the same job was begun before.

    Shards that cannot be read and may be left out are listed in the folder (`skipped_log.py`).

    Args:
        job: the training.
        resources: the number of workers, and what each reserves.
        progress: shows how far the training is.
        policy: the share of images that may be left out.
        callback: evaluates the network while it trains.

    Raises:
        UserError: the data are damaged, a loss is not finite, the checkpoints belong to another network, or results
            cannot be written.
    """
    from dpt_ray.distributed.reading import is_kept, open_source

    left = begin_attempt(job.folder)
    forget_failures(job.folder)
    keep_bytes = job.cluster.keep_mib * 2**20
    images_in = sum(source.num_images for source, _ in job.sources.values())
    on_unreadable = open_skipped_log(job.folder, policy, images_in)
    streaming = sum(not is_kept(source, keep_bytes) for source, _ in job.sources.values())
    streams = max(1, resources.processes * streaming)
    open_one = partial(
        open_source,
        keep_bytes=keep_bytes,
        streams=streams,
        training=resources,
        in_workers=not trains_in_this_process(job.cluster),
        on_unreadable=on_unreadable,
    )
    readers = {name: open_one(source) for name, (source, _) in job.sources.items()}
    with progress, BoardWatcher(progress, callback.report if callback else None) as watcher:
        setup = _WorkerSetup(
            job=job,
            readers=readers,
            threads=resources.threads,
            board=watcher.mailbox,
            title=progress.title,
            left=left,
            callback=replace(callback, report=_report_nothing) if callback else None,
            plugins=plugins.registered(),
            stop=Event() if trains_in_this_process(job.cluster) else None,
        )
        complaint = _fit_to_the_end(setup, resources, progress)
    if complaint:
        what, where, fix = complaint
        raise UserError(what, where=where or progress.title, fix=fix)


def _fit_to_the_end(setup: _WorkerSetup, resources: Resources, progress: ProgressLine) -> Complaint | None:
    """Train, and again from the newest checkpoint if Ray Train's controller dies; return what `_worker` returns.

    Raises:
        TryAgainError: the controller or a worker died too often, or Ray itself died.
        UserError: a disk failed, or memory was not enough.
        Exception: the error of a worker.
    """
    from ray.exceptions import RayActorError
    from ray.train import WorkerGroupError

    for attempt in itertools.count():
        try:
            complaint: Complaint | None = _fit(_trainer(setup, resources), setup.stop).return_value
            return complaint
        except RayActorError as error:
            if known := user_error(error) or lost_ray():
                raise known from error
            if attempt >= setup.job.cluster.max_failures:
                raise TryAgainError("Ray Train's controller died, more often than cluster.max_failures") from error
            progress.warn("Ray Train's controller died; the training goes on from its newest checkpoint")
            setup = replace(setup, left=begin_attempt(setup.job.folder))
        except WorkerGroupError as error:
            raise user_error(error) or lost_ray() or own_error(error.worker_failures) from error
        except Exception as error:
            raise user_error(error) or lost_ray() or error from error
    raise AssertionError("unreachable")


def _trainer(setup: _WorkerSetup, resources: Resources) -> Any:
    """Return Ray Train's trainer, whose workers run `_worker` with `setup`."""
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    return TorchTrainer(
        _worker,  # type: ignore[arg-type]  # Ray annotates None, and passes on what is returned
        train_loop_config={_SETUP: setup},
        scaling_config=ScalingConfig(
            num_workers=resources.processes if setup.stop is None else _LOCAL_MODE,
            use_gpu=resources.gpus > 0,
            resources_per_worker={"CPU": resources.cpus, **({"GPU": resources.gpus} if resources.gpus else {})},
        ),
        run_config=RunConfig(
            name=CHECKPOINT_FOLDER,
            callbacks=[_placement(setup, resources)],  # none is called in the local mode
            checkpoint_config=CheckpointConfig(num_to_keep=KEPT),
            **run_storage(setup.job.folder),
            failure_config=FailureConfig(
                max_failures=setup.job.cluster.max_failures,
                # Without a limit here: `PlaceWorkers` counts failed starts, and limits the time to wait.
                controller_failure_limit=-1,  # type: ignore[call-arg]  # the stubs are of Ray Train's first version
            ),
        ),
    )


_LOCAL_MODE = 0
"""The number of workers for which Ray Train trains in the calling process."""


def _placement(setup: _WorkerSetup, resources: Resources) -> Any:
    """Return the callback that places the workers at each of their starts."""
    from dpt_ray.distributed.placed_workers import PlaceWorkers

    cluster = setup.job.cluster
    wish = training_wish(cluster).shared(runs_here())
    return PlaceWorkers(wish, resources.cpus, cluster.wait_seconds, _notes(setup))


def _notes(setup: _WorkerSetup) -> Callable[[str], None]:
    """Return a function that passes lines to the board. It has a mailbox of its own, since any thread may call it."""
    return partial(Mailbox(setup.board.name).send, Board.note, setup.title)


def _fit(trainer: Any, stop: Event | None) -> Any:
    """Train in a thread: in the main one Ray Train would take Ctrl-C, then and ever after, and exit without a word."""
    result: Future[Any] = Future()
    threads = torch.get_num_threads()

    def run() -> None:
        try:
            result.set_result(trainer.fit())
        except BaseException as error:
            result.set_exception(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    if stop is None:
        return result.result()  # an interruption does not wait for the thread, since worker processes are killed
    try:
        return result.result()
    finally:
        stop.set()
        thread.join()  # a thread that computes while Python ends would abort the process
        torch.set_num_threads(threads)


def _report_nothing(share: float, score: float) -> None:
    """Replace a callback's `report` in workers, which report through the board; it need not pickle then."""


_SETUP = "setup"
"""Key of the dictionary that Ray Train passes to `_worker`."""


def _worker(config: Mapping[str, _WorkerSetup]) -> Complaint | None:
    """Run one training worker; return an error that would occur again if Ray Train started the workers again.

    It returns only errors that occur on all workers together: a worker that left alone would block the collective
    operations of the others.
    """
    import ray.train

    setup = config[_SETUP]
    plugins.adopt(setup.plugins)
    problem = _unfit(setup.job, _device(setup))
    if agree(problem is not None):
        is_first = ray.train.get_context().get_world_rank() == 0  # only the first worker's return value is shown
        if not agree(is_first and problem is not None) and problem is not None:
            raise problem
        return (problem.what, None, problem.fix) if problem is not None else None
    if complaint := _recurring(setup.job, ray.train.get_context().get_world_rank()):
        return complaint
    place = _Place()
    try:
        _train(setup, place)
    except NonFiniteLossError as error:  # all workers are here, see `train_step`
        return str(error), None, "lower the learning rate or set gradient_clip"
    except ForeignCheckpointError as error:  # all workers are here: they read the same one, before the first step
        where = stores.join(setup.job.folder, CHECKPOINT_FOLDER)
        fix = "it is whole: go on with the version that made it, or move that folder away to train from the start"
        return str(error), where, fix
    except NotStoredError as error:  # all workers are here, see `store_together`
        cause = error.__cause__
        return (cause.what, cause.where, cause.fix) if isinstance(cause, UserError) else ("not stored", None, None)
    except TakenOverError:
        return "another job has taken this training over", setup.job.folder, "wait for it"
    except Exception as error:
        note_failure(setup.job.folder, ray.train.get_context().get_world_rank(), place.images, error)
        raise
    return None


def _device(setup: _WorkerSetup) -> torch.device:
    """Return the device that this worker computes on."""
    from ray.train.torch import get_device

    return get_device() if setup.stop is None else torch.device("cpu")  # Ray's local mode would take any GPU


@dataclass
class _Place:
    """How far a worker's training is.

    Attributes:
        state: of the training; None before the worker has built it.
    """

    state: TrainState | None = None

    @property
    def images(self) -> int:
        """Images seen."""
        return self.state.images_seen if self.state is not None else 0


def _recurring(job: TrainingJob, rank: int) -> Complaint | None:
    """Return the error that ended earlier attempts at the same place too often. Every worker must call this."""
    failure = recurring_failure(job.folder) if rank == 0 else None
    if not agree(failure is not None):
        return None
    what = f"failed {failure.times} times at the same place, after {failure.images:,} images: " if failure else ""
    return what + (failure.error if failure else ""), None, None


def _unfit(job: TrainingJob, device: Any) -> UserError | None:
    """Return the error if this machine does not support the settings' precision or compilation, otherwise None."""
    try:
        check_compute(job.config.precision, job.cluster.compile, device)
    except UserError as error:
        return error
    return None


def _train(setup: _WorkerSetup, place: _Place) -> None:
    import ray.train
    from ray.train.torch import prepare_model

    job = setup.job
    torch.set_num_threads(setup.threads)
    context, device = ray.train.get_context(), _device(setup)
    rank, num_workers = context.get_world_rank(), context.get_world_size()

    _require_ownership(job, rank == 0)
    place.state = state = job.build().to(device)
    restored = _restore(state, setup, rank)
    writer = CheckpointWriter(job.folder, rank, restored, setup.left, ray_keeps=setup.stop is None)
    if job.cluster.channels_last:
        keep_channels_last(state)
    if job.cluster.compile:
        compile_network(state.model)
    model: torch.nn.Module = state.model
    if num_workers > 1 and job.cluster.shard_weights:
        shard(state)
    elif num_workers > 1:
        model = prepare_model(state.model, move_to_device=False)
    lanes = worker_lanes(job.data.lanes, rank, num_workers)
    first_step = state.images_seen // job.schedule.images_per_step
    feeds = {name: _open_feed(name, setup, lanes, first_step) for name in job.sources}
    batches = training_batches(feeds, lanes=lanes, seed=job.seed, first_step=first_step, device=device)
    observer = _Observer(setup, writer, rank, device)
    train(
        state,
        batches if setup.stop is None else _until(setup.stop, batches),
        job.schedule,
        job.config.optimizer,
        model=model,
        precision=job.config.precision,
        gradient_accumulation=job.cluster.gradient_accumulation,
        on_log=observer.on_log,
        on_checkpoint=observer.on_checkpoint,
        on_snapshot=observer.on_snapshot,
    )
    network = job.finish(state) if rank == 0 or state.sharded else b""
    writer.settle()
    history = stores.json_bytes(state.history)
    store_together(rank == 0, lambda: _store_files(job.folder, {HISTORY_FILE: history, NETWORK_FILE: network}))
    if job.cluster.keep_training_state:  # last: the network is whole even if there is no space for it
        final = state.to_bytes() if rank == 0 or state.sharded else b""
        store_together(rank == 0, lambda: keep_state(job.folder, state.images_seen, final))


def _until(stop: Event, batches: Iterator[_Item]) -> Iterator[_Item]:
    """Yield the batches until `stop` is set; the thread then ends by an error that nobody receives."""
    for batch in batches:
        if stop.is_set():
            raise InterruptedError("the training was interrupted")
        yield batch


class _Observer:
    """Stores checkpoints on every worker, and reports progress on the first one."""

    def __init__(self, setup: _WorkerSetup, writer: CheckpointWriter, rank: int, device: Any):
        self._job, self._callback = setup.job, setup.callback
        self._board, self._title = setup.board if rank == 0 else None, setup.title
        self._writer, self._is_first, self._device = writer, rank == 0, device
        self._totals: dict[Metric, float] = dict.fromkeys((TRAINING, DATA_WAIT, CHECKPOINTS, CHECKPOINT), 0.0)

    def on_log(self, state: TrainState, pace: Pace) -> None:
        """Report a new row of the history, and evaluate the network if that is due."""
        self._writer.settle(wait=False)
        self._totals[TRAINING] += pace.seconds
        waited = torch.tensor(pace.data_wait_seconds, device=self._device)
        self._totals[DATA_WAIT] += float(mean_over_workers(waited))
        if self._board is not None:
            row, totals = state.history[-1], dict(self._totals)
            progress = TrainingProgress(int(row["images"]), pace.images_per_second, row["loss"], totals)
            measured = {**row, "images_per_second": pace.images_per_second}
            self._board.send(Board.write, self._title, progress, measured)
        if self._callback is not None:
            self._evaluate(state, self._callback)

    def _evaluate(self, state: TrainState, callback: EvaluationCallback) -> None:
        schedule = self._job.schedule
        before = state.history[-2]["images"] if len(state.history) > 1 else 0
        share = callback.due(int(before), state.images_seen, schedule.num_steps * schedule.images_per_step)
        if share is None:
            return
        network = self._job.finish(state) if self._is_first or state.sharded else b""
        if self._board is not None:
            self._board.send(Board.note_evaluation, self._title, share, callback.evaluate(network))

    def on_checkpoint(self, state: TrainState) -> None:
        """Store a checkpoint."""
        began = time.monotonic()
        _require_ownership(self._job, self._is_first)
        self._writer.save(state)
        self._totals[CHECKPOINTS] += 1
        self._totals[CHECKPOINT] += time.monotonic() - began

    def on_snapshot(self, state: TrainState) -> None:
        """Store the power averages, one at a time, since each is as large as the network."""
        files = snapshot_files(state)
        for _ in state.power_averages:
            file = dict([next(files)]) if self._is_first or state.sharded else {}
            store_together(self._is_first, partial(_store_files, self._job.folder, file))


def _restore(state: TrainState, setup: _WorkerSetup, rank: int) -> Restored:
    """Load the newest complete checkpoint, and report it and the damaged ones."""
    restored = restore(state, setup.job.folder)
    if rank == 0:
        for note in restored.notes:
            setup.board.send(Board.note, setup.title, note)
        if restored.name is not None:
            setup.board.send(Board.resume, setup.title, state.images_seen)
    return restored


def _require_ownership(job: TrainingJob, is_first: bool) -> None:
    """Let all workers raise `TakenOverError` if another job trains in the folder. Every worker must call this."""
    if agree(is_first and not job.owns()):
        raise TakenOverError


def _store_files(folder: str, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        stores.write_bytes(stores.join(folder, name), content)


def _open_feed(name: str, setup: _WorkerSetup, lanes: range, first_step: int) -> Feed:
    job = setup.job
    source, batch = job.sources[name]
    order = ImageOrder(
        source.counts,
        seed=derive_seed("order", job.seed, name),
        lanes=job.data.lanes,
        shuffle_window=job.data.shuffle_window,
    )
    read = setup.readers[name].open(
        order=order,
        lanes=lanes,
        rows_per_lane=batch // job.data.lanes,
        first_step=first_step,
        stop_step=job.schedule.num_steps,
        starvation=Starvation(_notes(setup)),
    )
    return Feed(order, read, batch)
