"""Connects to Ray, and plans how the processes of a job share its CPUs and GPUs."""

import logging
import math
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dpt_ray.config.schema import ClusterConfig
from dpt_ray.distributed import local_ray
from dpt_ray.distributed.address import join, named_address
from dpt_ray.distributed.temporary_space import check_temporary_space
from dpt_ray.distributed.wait_for_nodes import wait_for_resources
from dpt_ray.errors import UserError
from dpt_ray.text import one_line

READER_CPUS, LEAST_READER_CPUS = 1.0, 0.25
"""CPUs that a read task reserves, and the least that it reserves where training leaves fewer. It decodes all the time,
so more readers than CPUs slow each other down."""

MOST_READERS = 32
"""Most readers of a stream. More decode faster than a worker consumes even small images."""

SPARE_CPUS = 1.0
"""CPUs that training workers leave by default to readers, the driver and Ray itself. The threads of a computation wait
for the slowest of them, so sharing one core slows down all of them."""


def join_cluster(runs: int) -> None:
    """Set up a process that Ray started for one of `runs` concurrent runs, which share the cluster equally."""
    _set_environment(local=False)
    configure_data()
    share_cluster(runs)


def connect(config: ClusterConfig) -> None:
    """Connect to the cluster that RAY_ADDRESS names, or start a local Ray (`local_ray`).

    It does nothing if this process is connected already.

    Raises:
        UserError: the named cluster cannot be reached, no folder is usable for the files of a local Ray, or this
            version of Ray lacks internals that this package uses.
    """
    address = named_address()
    _set_environment(local=not address)
    import ray

    if ray.is_initialized():
        return
    check_ray_internals()
    # Workers report errors as exceptions and progress through a board, so their logs would only repeat both.
    settings = {"logging_level": logging.ERROR, "log_to_driver": False}
    with _kept_signals():
        if address:
            join(address, settings)
        else:
            check_temporary_space()
            local_ray.start_local_ray(num_cpus=config.local_cpus or os.cpu_count(), **settings)
    configure_data()


@contextmanager
def _kept_signals() -> Iterator[None]:
    """Keep this process's handler of SIGTERM, if it has one: Ray's ends the process without leaving any context."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if callable(handler) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def check_ray_internals() -> None:
    """Check that this version of Ray has the internals that `ray_internals` uses.

    Raises:
        UserError: one of them is missing.
    """
    import ray

    try:
        from dpt_ray.distributed import ray_internals  # noqa: F401
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"Ray {ray.__version__} lacks an internal function that this package uses ({one_line(error)})",
            fix="install a version of Ray that this package names in its requirements",
        ) from error


_ENVIRONMENT = {
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    # The interval in which Ray Train's controller polls its workers for reports and for the end of training.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # A worker imports torch, which is slow where many workers start at once, and nodes may have to be added first.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def _set_environment(*, local: bool) -> None:
    """Set the environment variables that Ray reads. Workers get them by inheritance or from Ray Train."""
    if local:
        local_ray.set_environment()
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module="ray")


def configure_data() -> None:
    """Set up Ray Data in this process. Each process that builds a data set needs this."""
    # Without it Ray Data notices the end of a task one round of its loop later, 0.1 s in which the task's CPU idles.
    # Ray Data reads it at its first use.
    os.environ.setdefault("RAY_DATA_METADATA_PREFETCH_ON_THREAD", "0")
    from ray.data import DataContext

    from dpt_ray.distributed.scheduler_throttle import SchedulerThrottle

    # The filter stands here because Ray adds its own when it is imported. `ray_remote_args` is deprecated, and some
    # options in it have no parameter of their own yet.
    warnings.filterwarnings("ignore", message=".*will be removed in Ray 2.64")
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True  # rows are matched to requests by position
    context.target_max_block_size = None  # read tasks decide the size of blocks
    context.custom_execution_callback_classes = [SchedulerThrottle]
    for name in ("ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it also raises the errors that it logs


_runs = 1
"""Number of runs that share the cluster equally; this process belongs to one of them."""


def share_cluster(runs: int) -> None:
    """Let this process plan with an equal share of the cluster for each of `runs` runs; see `concurrent_runs`."""
    global _runs
    _runs = runs


def total_resources() -> dict[str, float]:
    """Return the resources of the cluster that this process may plan with: all of them, or its share."""
    import ray

    return {name: amount / _runs for name, amount in ray.cluster_resources().items()}


def concurrent_runs(config: ClusterConfig, wanted: int) -> int:
    """Return how many runs may share the cluster equally (`share_cluster`).

    Runs that share a cluster in this way cannot deadlock. A share has at least one CPU. Training workers, which keep
    their CPUs as long as a training takes, leave enough of it for a read or inference task, and those tasks end without
    waiting for others.

    Args:
        config: the workers, CPUs and GPUs of one run.
        wanted: most runs at the same time.

    Raises:
        UserError: the cluster is too small for one run.
    """
    import ray

    total = ray.cluster_resources()
    gpus = config.gpus_per_worker * config.training_workers
    if config.cpus_per_worker is None:
        least, cpus = 1.0, float(config.training_workers) + (SPARE_CPUS if gpus else 0.0)
    else:
        reserved = config.cpus_per_worker * config.training_workers
        least, cpus = reserved + LEAST_READER_CPUS, reserved + SPARE_CPUS
    _check_fits(total, "CPU", least, "cluster.workers or cluster.cpus_per_worker")
    _check_fits(total, "GPU", gpus, "cluster.workers or cluster.gpus_per_worker")
    fit = total.get("CPU", 0) / cpus
    if gpus:
        fit = min(fit, total.get("GPU", 0) / gpus)
    return max(1, min(wanted, int(fit + 1e-6)))


@dataclass(frozen=True)
class Resources:
    """The number of processes in a group, and the resources that each of them reserves.

    Attributes:
        processes: their number.
        cpus: CPUs of each process.
        gpus: GPUs of each process.
    """

    processes: int
    cpus: float
    gpus: float

    @property
    def threads(self) -> int:
        """Number of threads that a process computes with."""
        return max(1, round(self.cpus))

    @property
    def device(self) -> str:
        """The device that a process computes on: `cuda` or `cpu`."""
        return "cuda" if self.gpus else "cpu"


def trains_in_this_process(config: ClusterConfig) -> bool:
    """Whether trainings run in this process, on its CPUs, and not in workers; see `cluster.workers`."""
    return config.workers == 0 and not config.gpus_per_worker and not named_address()


def training_resources(config: ClusterConfig) -> Resources:
    """Return the resources of training workers. They leave at least `LEAST_READER_CPUS` to readers.

    Raises:
        UserError: the cluster has less than the settings require, even after `cluster.wait_seconds`.
    """
    workers = config.training_workers
    _wait_for(config, workers)
    total = total_resources()
    cpus = config.cpus_per_worker
    if cpus is None:
        share = max(0.1, total.get("CPU", 0) - SPARE_CPUS) / workers
        # Workers with GPUs need few CPUs. Workers without GPUs compute on all that they get.
        cpus = min(share, 4.0) if config.gpus_per_worker else share
        cpus = float(int(cpus)) if cpus >= 1 else math.floor(100 * cpus) / 100
    _check_fits(
        total, "CPU", cpus * config.training_workers + LEAST_READER_CPUS, "cluster.workers or cluster.cpus_per_worker"
    )
    _check_fits(
        total, "GPU", config.gpus_per_worker * config.training_workers, "cluster.workers or cluster.gpus_per_worker"
    )
    return Resources(config.training_workers, cpus, config.gpus_per_worker)


def check_machine(config: ClusterConfig) -> None:
    """Check that a local Ray on this machine would have the GPUs and CPUs that the settings require.

    Nothing is checked if RAY_ADDRESS names a cluster, which may add nodes, or if this process is connected already.

    Raises:
        UserError: this machine has fewer.
    """
    if named_address() or ("ray" in sys.modules and sys.modules["ray"].is_initialized()):
        return
    import torch

    cpus = config.local_cpus or os.cpu_count() or 1
    total = {"CPU": float(cpus), "GPU": float(torch.cuda.device_count())}
    needed = {
        "CPU": (config.cpus_per_worker or 0.1) * config.training_workers + LEAST_READER_CPUS,
        "GPU": config.gpus_per_worker * config.training_workers,
    }
    for name, wanted in needed.items():
        setting = f"cluster.workers or cluster.{name.lower()}s_per_worker"
        _check_fits(total, name, wanted, setting, place="this machine")


def stream_readers(streams: int = 1, training: Resources | None = None) -> tuple[int, float]:
    """Return the number of read tasks that each stream runs at the same time, and the CPUs that a task reserves.

    Args:
        streams: number of streams.
        training: the training that runs beside the streams and leaves them the other CPUs.
    """
    import ray

    left = total_resources().get("CPU", 1) - (training.processes * training.cpus if training else 0)
    nodes = sum(node["Alive"] for node in ray.nodes())  # a task must fit on one
    cpus = max(LEAST_READER_CPUS, min(READER_CPUS, math.floor(100 * left / nodes) / 100))
    return max(1, min(MOST_READERS, int(left / cpus / streams + 1e-6))), cpus


def inference_resources(config: ClusterConfig) -> Resources:
    """Return the resources of batch-inference processes: a CPU each, or a GPU and half a CPU where training uses GPUs.

    Every process computes with one thread, so that results do not depend on the number of processes.

    Raises:
        UserError: the cluster has fewer GPUs than the settings require, even after `cluster.wait_seconds`.
    """
    _wait_for(config, 1)
    total = total_resources()
    gpus = min(1.0, config.gpus_per_worker)
    _check_fits(total, "GPU", gpus, "cluster.gpus_per_worker")
    fit = int(total.get("GPU", 0) / gpus) if gpus else int(total.get("CPU", 1))
    processes = max(1, min(config.inference_workers or fit, fit))
    return Resources(processes, 1.0 if not gpus else 0.5, gpus)


def _wait_for(config: ClusterConfig, processes: int) -> None:
    """Wait until the cluster has the GPUs and CPUs of some processes: one CPU for each, unless the settings say it."""
    process = {"GPU": float(config.gpus_per_worker), "CPU": float(config.cpus_per_worker or 1)}
    wait_for_resources({name: amount for name, amount in process.items() if amount}, processes, config.wait_seconds)


def _check_fits(total: dict[str, float], name: str, wanted: float, setting: str, place: str = "the cluster") -> None:
    if wanted > total.get(name, 0) + 1e-6:
        raise UserError(
            f"{wanted:g} {name}s are needed but {place} has {total.get(name, 0):g}",
            where="cluster",
            fix=f"lower {setting}, or use a larger cluster",
        )
