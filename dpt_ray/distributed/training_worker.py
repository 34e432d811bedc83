"""One worker of a training: adds data, checkpoints and progress to the loop in `core/training`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Event as StopEvent
from typing import Any, TypeVar

import torch

from dpt_ray import plugins
from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.collective import agree
from dpt_ray.core.seeds import derive_seed
from dpt_ray.core.training.compute import check_compute, compile_network, keep_channels_last
from dpt_ray.core.training.freed_memory import freed_memory_kept
from dpt_ray.core.training.graphed_step import GraphedStep, graph_obstacle
from dpt_ray.core.training.loop import train
from dpt_ray.core.training.nonfinite import NonFiniteLossError
from dpt_ray.core.training.sharding import shard
from dpt_ray.core.training.state import ForeignCheckpointError, TrainState
from dpt_ray.core.training.update import StepSettings
from dpt_ray.core.worker_lanes import lanes_shared, worker_lanes
from dpt_ray.data.loading.feed import Feed, training_batches
from dpt_ray.data.loading.order import ImageOrder
from dpt_ray.data.loading.resident import ResidentSource, read_nothing
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.outages import Outage, outages
from dpt_ray.distributed.board import Board
from dpt_ray.distributed.checkpoints import (
    CHECKPOINT_FOLDER,
    CheckpointWriter,
    NotStoredError,
    Restored,
    restore,
    store_together,
)
from dpt_ray.distributed.code_folder import use_private_code_folder
from dpt_ray.distributed.compiled_code import CompiledCode
from dpt_ray.distributed.device_sources import DeviceMemory, choose_resident
from dpt_ray.distributed.events import Event, of_outage
from dpt_ray.distributed.kept_state import keep_state
from dpt_ray.distributed.notice import Notice, Stopped
from dpt_ray.distributed.starved_stream import Starvation
from dpt_ray.distributed.training_job import HISTORY_FILE, TrainingJob, WorkerSetup
from dpt_ray.distributed.training_observer import Observer, TakenOverError, require_ownership, store_files
from dpt_ray.distributed.worker_failures import note_failure, recurring_failure
from dpt_ray.distributed.worker_notice import noticing, requested
from dpt_ray.errors import UserError
from dpt_ray.networks.files import NETWORK_FILE

_Item = TypeVar("_Item")

SETUP = "setup"
"""Key of the dictionary that Ray Train passes to `run_worker`."""


Complaint = tuple[str, str | None, str | None]
"""An error's description, its place if known, and its remedy if there is one."""


def run_worker(config: Mapping[str, WorkerSetup]) -> Complaint | Stopped | None:
    """Run one training worker to the end; return `Stopped` after a notice of preemption.

    It also returns an error that would occur again if the workers were started again. Such an error occurs on all
    workers together: a worker that left alone would block the collective operations of the others.
    """
    import ray.train

    setup = config[SETUP]
    plugins.adopt(setup.plugins)
    problem = _unfit(setup.job, _device(setup))
    if agree(problem is not None):
        is_first = ray.train.get_context().get_world_rank() == 0  # only the first worker's return value is shown
        if not agree(is_first and problem is not None) and problem is not None:
            raise problem
        return (problem.what, None, problem.fix) if problem is not None else None
    if complaint := _recurring(setup.job, ray.train.get_context().get_world_rank()):
        return complaint
    place, report = _Place(), setup.notes()
    try:
        observed = outages.observed(partial(_tell_outage, report))
        with observed, lanes_shared(setup.job.data.lanes), _allocator(_device(setup)):
            return _train(setup, place)
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


def _device(setup: WorkerSetup) -> torch.device:
    """Return the device that this worker computes on."""
    from ray.train.torch import get_device

    return torch.device(get_device() if setup.stop is None else "cpu")  # Ray's local mode would take any GPU


def _allocator(device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which host memory is allocated."""
    return freed_memory_kept() if device.type == "cpu" else nullcontext()


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
        use_private_code_folder()
        check_compute(job.config.precision, job.cluster.compile, device)
    except UserError as error:
        return error
    return None


def _train(setup: WorkerSetup, place: _Place) -> Stopped | None:
    import ray.train
    from ray.train.torch import prepare_model

    job = setup.job
    torch.set_num_threads(setup.threads)
    context, device = ray.train.get_context(), _device(setup)
    rank, num_workers = context.get_world_rank(), context.get_world_size()

    require_ownership(job, rank == 0)
    place.state = state = job.build().to(device)
    restored = _restore(state, setup, rank)
    writer = CheckpointWriter(job.folder, rank, restored, setup.left, setup.stop is None, setup.notes())
    if job.cluster.channels_last:
        keep_channels_last(state)
    code = CompiledCode(job.cluster.compiled_code, device, _first_worker_notes(setup, rank))
    if job.cluster.compile:
        code.load()
        compile_network(state.model)
    model: torch.nn.Module = state.model
    if num_workers > 1 and job.cluster.shard_weights:
        shard(state)
    elif num_workers > 1:
        model = prepare_model(state.model, move_to_device=False)
    batches = _batches(setup, state, rank, num_workers)
    observer = Observer(setup, writer, rank, device, code if job.cluster.compile and rank == 0 else None)
    with noticing(setup, rank) as notice:
        is_complete = train(
            state,
            batches,
            job.schedule,
            job.config.optimizer,
            model=model,
            precision=job.config.precision,
            gradient_accumulation=job.cluster.gradient_accumulation,
            graphed=_graphed_step(setup, state, model, num_workers, rank),
            on_log=observer.on_log,
            on_checkpoint=observer.on_checkpoint,
            on_snapshot=observer.on_snapshot,
            should_stop=_telling(notice, setup, rank),
        )
    if not is_complete:
        writer.settle()
        return Stopped(state.images_seen, notice.reason)
    _finish(state, setup, writer, rank)
    return None


def _batches(setup: WorkerSetup, state: TrainState, rank: int, num_workers: int) -> Iterator[Mapping[str, ImageBatch]]:
    """Return this worker's batches from the state's step on; what fits lies on its GPU."""
    job, device = setup.job, state.device
    lanes = worker_lanes(job.data.lanes, rank, num_workers)
    first_step = state.images_seen // job.schedule.images_per_step
    memory = DeviceMemory.of(device, min(1.0, job.cluster.gpus_per_worker or 1.0))
    say = _first_worker_notes(setup, rank)
    resident = choose_resident(job.sources, state, memory, job.cluster.keep_gpu_mib, say)
    feeds = {
        name: _open_feed(name, setup, lanes, first_step, device if name in resident else None) for name in job.sources
    }
    batches: Iterator[Mapping[str, ImageBatch]] = training_batches(
        feeds, lanes=lanes, seed=job.seed, first_step=first_step, stop_step=job.schedule.num_steps, device=device
    )
    return batches if setup.stop is None else _until(setup.stop, batches)


def _finish(state: TrainState, setup: WorkerSetup, writer: CheckpointWriter, rank: int) -> None:
    """Store the trained network, the history, and the state from which the training can be extended."""
    job = setup.job
    network = job.finish(state) if rank == 0 or state.sharded else b""
    writer.settle()
    history = stores.json_bytes(state.history)
    store_together(rank == 0, lambda: store_files(job.folder, {HISTORY_FILE: history, NETWORK_FILE: network}))
    if job.cluster.keep_training_state:  # last: the network is whole even if there is no space for it
        final = state.to_bytes() if rank == 0 or state.sharded else b""
        store_together(rank == 0, lambda: keep_state(job.folder, state.images_seen, final))


def _telling(notice: Notice, setup: WorkerSetup, rank: int) -> Callable[[], bool]:
    """Return a function that says whether a notice was given, and tells the board when it is first."""
    told = False

    def is_given() -> bool:
        nonlocal told
        if notice.is_given and not told:
            told = True
            setup.notes()(requested(notice, rank))
        return notice.is_given

    return is_given


def _until(stop: StopEvent, batches: Iterator[_Item]) -> Iterator[_Item]:
    """Yield the batches until `stop` is set; the thread then ends by an error that nobody receives."""
    for batch in batches:
        if stop.is_set():
            raise InterruptedError("the training was interrupted")
        yield batch


def _restore(state: TrainState, setup: WorkerSetup, rank: int) -> Restored:
    """Load the newest complete checkpoint, and report it and the damaged ones."""
    restored = restore(state, setup.job.folder)
    if rank == 0:
        for note in restored.notes:
            setup.board.send(Board.note, setup.title, note)
        if restored.name is not None:
            setup.board.send(Board.resume, setup.title, state.images_seen)
    return restored


def _graphed_step(
    setup: WorkerSetup, state: TrainState, model: torch.nn.Module, num_workers: int, rank: int
) -> GraphedStep | None:
    """Return the step that is captured as a CUDA graph if one is set; say why not if it cannot be."""
    if not setup.job.cluster.cuda_graph:
        return None
    say = _first_worker_notes(setup, rank)
    if (obstacle := graph_obstacle(state, num_workers)) is not None:
        say(f"steps are not captured as a CUDA graph: {obstacle}")
        return None
    config, accumulation = setup.job.config, setup.job.cluster.gradient_accumulation
    return GraphedStep(state, model, StepSettings(config.optimizer.gradient_clip, config.precision, accumulation), say)


def _first_worker_notes(setup: WorkerSetup, rank: int) -> Callable[[str], None]:
    """Return a function that passes lines to the board on the first worker, and drops those of the others."""
    return setup.notes() if rank == 0 else lambda line: None


def _tell_outage(report: Callable[[Event], object], outage: Outage) -> None:
    """Tell the board of an outage of the store, from any process that reads."""
    report(of_outage(outage))


def _open_feed(name: str, setup: WorkerSetup, lanes: range, first_step: int, resident_on: torch.device | None) -> Feed:
    """Open a source: read it whole onto a device if one is given, otherwise segment by segment."""
    job = setup.job
    source, batch = job.sources[name]
    order = ImageOrder(
        source.counts,
        seed=derive_seed("order", job.seed, name),
        lanes=job.data.lanes,
        shuffle_window=job.data.shuffle_window,
    )
    starvation, on_outage = Starvation(setup.notes()), partial(_tell_outage, setup.notes())
    if resident_on is not None:
        blocks = setup.readers[name].blocks(starvation=starvation, on_outage=on_outage)
        return Feed(order, read_nothing, batch, ResidentSource.filled(blocks, source.num_images, resident_on))
    read = setup.readers[name].open(
        order=order,
        lanes=lanes,
        rows_per_lane=batch // job.data.lanes,
        first_step=first_step,
        stop_step=job.schedule.num_steps,
        starvation=starvation,
        on_outage=on_outage,
    )
    return Feed(order, read, batch)
