"""Training with Ray Train: adds workers, data, checkpoints and progress to the loop in `core/training`."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from threading import Thread
from typing import Any

from dpt_ray.config.schema import OptimizerConfig
from dpt_ray.core.random import derive_seed
from dpt_ray.core.training.collective import agree, mean_over_workers
from dpt_ray.core.training.compute import (
    FLOAT32,
    Precision,
    check_compute,
    compile_network,
    keep_channels_last,
)
from dpt_ray.core.training.finite import NonFiniteLossError
from dpt_ray.core.training.loop import Pace, Schedule, train
from dpt_ray.core.training.sharding import shard
from dpt_ray.core.training.state import ForeignCheckpointError, TrainState
from dpt_ray.data import stores
from dpt_ray.data.feed import Feed, training_batches, worker_lanes
from dpt_ray.data.networks import NETWORK_FILE
from dpt_ray.data.order import ImageOrder
from dpt_ray.data.skipped import TOLERATE_NOTHING, SkipPolicy
from dpt_ray.data.snapshots import snapshot_files
from dpt_ray.data.source import ImageSource
from dpt_ray.distributed.checkpoints import (
    CHECKPOINT_FOLDER,
    newest_checkpoint,
    report_checkpoint,
    rescue_checkpoint,
    run_storage,
)
from dpt_ray.distributed.cluster import Resources
from dpt_ray.distributed.failures import user_error
from dpt_ray.distributed.ledger import open_ledger
from dpt_ray.distributed.looks import Looks
from dpt_ray.distributed.metrics import CHECKPOINT, CHECKPOINTS, DATA_WAIT, TRAINING, Metric
from dpt_ray.distributed.progress import BoardWatcher, ProgressLine
from dpt_ray.errors import UserError

HISTORY_FILE = "history.json"


@dataclass(frozen=True)
class TrainingJob:
    """A training as its workers need it.

    Attributes:
        build: returns the state before the first step.
        finish: returns the file of the trained network.
        sources: source name -> images and their share of a step's global batch.
        optimizer: learning rate and clipping.
        schedule: how far to go.
        lanes: lanes of the data order.
        shuffle_window: images that are shuffled together.
        seed: of the data order and of every random number.
        folder: URL of the folder that gets the network and the history.
        precision: what the network computes in.
        channels_last: keep convolutions channels last in memory.
        compile: compile the network.
        parts: see `train_step`.
        shard: share the network out over the workers.
    """

    build: Callable[[], TrainState]
    finish: Callable[[TrainState], bytes]
    sources: dict[str, tuple[ImageSource, int]]
    optimizer: OptimizerConfig
    schedule: Schedule
    lanes: int
    shuffle_window: int
    seed: int
    folder: str
    precision: Precision = FLOAT32
    channels_last: bool = False
    compile: bool = False
    parts: int = 1
    shard: bool = False


def run_training(
    job: TrainingJob,
    *,
    resources: Resources,
    keep_bytes: int,
    max_failures: int,
    progress: ProgressLine,
    policy: SkipPolicy = TOLERATE_NOTHING,
    looks: Looks | None = None,
) -> None:
    """Train to the end, resuming from the newest checkpoint if the same job was begun before.

    What could not be read and was tolerated is in the folder's ledger (`ledger.py`). `looks` are told as they are
    taken.

    Raises:
        UserError: damaged data, a loss that is not finite, or workers that keep failing.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from dpt_ray.distributed.reading import is_kept, open_source

    rescue_checkpoint(job.folder)
    images_in = sum(source.num_images for source, _ in job.sources.values())
    on_unreadable = open_ledger(job.folder, policy, images_in)
    streaming = sum(not is_kept(source, keep_bytes) for source, _ in job.sources.values())
    streams = max(1, resources.processes * streaming)
    readers = {
        name: open_source(source, keep_bytes, streams=streams, training=resources, on_unreadable=on_unreadable)
        for name, (source, _) in job.sources.items()
    }
    with BoardWatcher(progress, looks.tell if looks else None) as watcher:
        trainer = TorchTrainer(
            _worker,
            train_loop_config={
                "job": job,
                "readers": readers,
                "threads": resources.threads,
                "board": watcher.board,
                "title": progress.title,
                "looks": replace(looks, tell=_nobody) if looks else None,
            },
            scaling_config=ScalingConfig(
                num_workers=resources.processes,
                use_gpu=resources.gpus > 0,
                resources_per_worker={"CPU": resources.cpus, **({"GPU": resources.gpus} if resources.gpus else {})},
            ),
            run_config=RunConfig(
                name=CHECKPOINT_FOLDER,
                checkpoint_config=CheckpointConfig(num_to_keep=2),
                **run_storage(job.folder),
                failure_config=FailureConfig(max_failures=max_failures, controller_failure_limit=3),
            ),
        )
        try:
            complaint = _fit(trainer).return_value
        except Exception as error:
            raise user_error(error) or error from error
    if complaint:
        what, fix = complaint
        raise UserError(what, where=progress.title, fix=fix)


def _fit(trainer: Any) -> Any:
    """Train in a thread: in the main one Ray Train would take Ctrl-C, then and ever after, and exit without a word."""
    result: Future[Any] = Future()

    def run() -> None:
        try:
            result.set_result(trainer.fit())
        except BaseException as error:
            result.set_exception(error)

    Thread(target=run, daemon=True).start()  # whoever is interrupted does not wait for it
    return result.result()


def _nobody(share: float, score: float) -> None:
    """In a worker, looks are told through the board."""


def _worker(config: dict[str, Any]) -> tuple[str, str | None] | None:
    """One training worker; returns what would only happen again if Ray Train tried again, and its remedy.

    Only what all workers notice together may be returned: one that left alone would be waited for by the others.
    """
    import ray.train
    from ray.train.torch import get_device

    problem = _unfit(config["job"], get_device())
    if agree(problem is not None):
        is_first = ray.train.get_context().get_world_rank() == 0  # what the first one returns is what is told
        if not agree(is_first and problem is not None) and problem is not None:
            raise problem
        return (problem.what, problem.fix) if problem is not None else None
    try:
        _train(config)
    except NonFiniteLossError as error:  # all workers are here, see `train_step`
        return str(error), "lower the learning rate or set gradient_clip"
    except ForeignCheckpointError as error:  # all workers are here: they read the same one, before the first step
        return f"{config['job'].folder}: {error}", "remove that folder to train from the start"
    return None


def _unfit(job: TrainingJob, device: Any) -> UserError | None:
    """Return why this machine cannot compute as the settings say."""
    try:
        check_compute(job.precision, job.compile, device)
    except UserError as error:
        return error
    return None


def _train(config: dict[str, Any]) -> None:
    import ray.train
    import torch
    from ray.train.torch import get_device, prepare_model

    job: TrainingJob = config["job"]
    torch.set_num_threads(config["threads"])
    context, device = ray.train.get_context(), get_device()
    rank, num_workers = context.get_world_rank(), context.get_world_size()

    state = job.build().to(device)
    checkpoint = newest_checkpoint(job.folder)
    if checkpoint is not None:
        state.load_bytes(checkpoint)
        if rank == 0:
            config["board"].resume.remote(config["title"], state.images_seen)
    if job.channels_last:
        keep_channels_last(state)
    if job.compile:
        compile_network(state.model)
    model: torch.nn.Module = state.model
    if num_workers > 1 and job.shard:
        shard(state)
    elif num_workers > 1:
        model = prepare_model(state.model, move_to_device=False)
    lanes = worker_lanes(job.lanes, rank, num_workers)
    first_step = state.images_seen // job.schedule.images_per_step
    board = config["board"] if rank == 0 else None
    looks: Looks | None = config["looks"]
    total = job.schedule.num_steps * job.schedule.images_per_step

    totals: dict[Metric, float] = dict.fromkeys((TRAINING, DATA_WAIT, CHECKPOINTS, CHECKPOINT), 0.0)

    def on_log(state: TrainState, pace: Pace) -> None:
        totals[TRAINING] += pace.seconds
        totals[DATA_WAIT] += float(mean_over_workers(torch.tensor(pace.data_wait_seconds, device=device)))
        if board is not None:
            row = state.history[-1]
            told = {"done": row["images"], "rate": pace.images_per_second, "loss": row["loss"], "totals": dict(totals)}
            board.write.remote(config["title"], told)
        if looks is not None:
            before = state.history[-2]["images"] if len(state.history) > 1 else 0
            share = looks.due(int(before), state.images_seen, total)
            if share is not None:
                network = job.finish(state) if rank == 0 or state.sharded else b""
                if board is not None:
                    board.look.remote(config["title"], share, looks.judge(network))

    def on_checkpoint(state: TrainState) -> None:
        began = time.monotonic()
        report_checkpoint(state, rank)
        totals[CHECKPOINTS] += 1
        totals[CHECKPOINT] += time.monotonic() - began

    def on_snapshot(state: TrainState) -> None:
        for name, content in snapshot_files(state) if rank == 0 or state.sharded else ():
            if rank == 0:
                stores.write_bytes(stores.join(job.folder, name), content)

    train(
        state,
        training_batches(
            {
                name: _open_feed(name, job, config["readers"][name], batch, lanes, first_step)
                for name, (_, batch) in job.sources.items()
            },
            lanes=lanes,
            seed=job.seed,
            first_step=first_step,
            device=device,
        ),
        job.schedule,
        job.optimizer,
        model=model,
        precision=job.precision,
        parts=job.parts,
        on_log=on_log,
        on_checkpoint=on_checkpoint,
        on_snapshot=on_snapshot,
    )
    network = job.finish(state) if rank == 0 or state.sharded else b""
    if rank == 0:
        stores.write_json(stores.join(job.folder, HISTORY_FILE), state.history)
        stores.write_bytes(stores.join(job.folder, NETWORK_FILE), network)


def _open_feed(name: str, job: TrainingJob, reader: Any, batch: int, lanes: range, first_step: int) -> Feed:
    order = ImageOrder(
        job.sources[name][0].counts,
        seed=derive_seed("order", job.seed, name),
        lanes=job.lanes,
        shuffle_window=job.shuffle_window,
    )
    read = reader.open(
        order=order,
        lanes=lanes,
        rows_per_lane=batch // job.lanes,
        first_step=first_step,
        stop_step=job.schedule.num_steps,
    )
    return Feed(order, read, batch)
