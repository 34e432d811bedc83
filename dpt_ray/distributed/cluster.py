"""Connecting to Ray, and how a job's processes share its CPUs and GPUs."""

import logging
import math
import os
import warnings
from dataclasses import dataclass

from dpt_ray.config.schema import ClusterConfig
from dpt_ray.distributed import local_ray
from dpt_ray.distributed.address import join, named_address
from dpt_ray.distributed.temporary_space import check_temporary_space
from dpt_ray.distributed.wait_for_nodes import wait_for_resources
from dpt_ray.errors import UserError

READER_CPUS, LEAST_READER_CPUS = 1.0, 0.25
"""CPUs that a reading task reserves, since it decodes all the time: a third reader for two CPUs costs the others more
than it gains. Where training leaves less, readers share what there is."""

MOST_READERS = 32
"""Of a stream; more decode faster than a worker can take, even if images are small."""

SPARE_CPUS = 1.0
"""CPUs that training workers leave by default to reading, the driver and Ray itself. Threads that compute
in step lose far more than a busy core's share when that core is not theirs alone."""


def join_cluster(parts: int) -> None:
    """Set up a process that Ray started for one of several runs, which plans with its part of the cluster."""
    _set_environment(local=False)
    configure_data()
    use_part_of(parts)


def connect(config: ClusterConfig) -> None:
    """Connect to the cluster that RAY_ADDRESS names, or start a local Ray that is closed to others (`local_ray`).

    Does nothing if this process is connected already.

    Raises:
        UserError: the named cluster cannot be reached, or a local Ray has no place for its files.
    """
    address = named_address()
    _set_environment(local=not address)
    import ray

    if ray.is_initialized():
        return
    # Errors come back as exceptions, progress through a board.
    settings = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address:
        join(address, settings)
    else:
        check_temporary_space()
        local_ray.start_local_ray(num_cpus=config.local_cpus or os.cpu_count(), **settings)
    configure_data()


_ENVIRONMENT = {
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    # Ray Train's controller notices what happens, a report or the end of training, once in so many seconds.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # Starting a worker means importing torch, slow where many start at once, and nodes may have to be added.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def _set_environment(*, local: bool) -> None:
    """Set what Ray reads from the environment, here and, by inheritance or by Ray Train, in workers."""
    if local:
        local_ray.set_environment()
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module="ray")


def configure_data() -> None:
    """Set up Ray Data in this process; every process that builds a data set has settings of its own."""
    # Else a task's end is noticed a round of Ray Data's loop later, 0.1 s in which its CPU idles. Read at first use.
    os.environ.setdefault("RAY_DATA_METADATA_PREFETCH_ON_THREAD", "0")
    from ray.data import DataContext

    from dpt_ray.distributed.scheduler_throttle import Paced

    # Here, since Ray sets a filter of its own when it is imported. Not all we pass has a named parameter yet.
    warnings.filterwarnings("ignore", message=".*will be removed in Ray 2.64")
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True  # results and reading are joined by position
    context.target_max_block_size = None  # blocks are cut where they are read
    context.custom_execution_callback_classes = [Paced]
    for name in ("ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it logs what it also raises


_parts = 1
"""Equal parts that the cluster's resources are divided into; this process plans with one of them."""


def use_part_of(parts: int) -> None:
    """Let this process plan with one of so many equal parts of the cluster; see `concurrent_runs`."""
    global _parts
    _parts = parts


def total_resources() -> dict[str, float]:
    """Return what this process may plan with: all of the cluster, or its part of it."""
    import ray

    return {name: amount / _parts for name, amount in ray.cluster_resources().items()}


def concurrent_runs(config: ClusterConfig, wanted: int) -> int:
    """Return how many runs may share the cluster, each planning with an equal part of it (`use_part_of`).

    A part has at least a whole CPU, so what training workers reserve for as long as a training takes always leaves
    room for a reading or an inference task. Those end by themselves and wait for nothing, so runs that share a
    cluster in this way cannot wait for each other.

    Args:
        config: how one run is spread.
        wanted: runs at the same time, at most.

    Raises:
        UserError: not even one fits.
    """
    import ray

    total = ray.cluster_resources()
    gpus = config.gpus_per_worker * config.workers
    if config.cpus_per_worker is None:
        least, cpus = 1.0, float(config.workers) + (SPARE_CPUS if gpus else 0.0)
    else:
        reserved = config.cpus_per_worker * config.workers
        least, cpus = reserved + LEAST_READER_CPUS, reserved + SPARE_CPUS
    _check_fits(total, "CPU", least, "cluster.workers or cluster.cpus_per_worker")
    _check_fits(total, "GPU", gpus, "cluster.workers or cluster.gpus_per_worker")
    fit = total.get("CPU", 0) / cpus
    if gpus:
        fit = min(fit, total.get("GPU", 0) / gpus)
    return max(1, min(wanted, int(fit + 1e-6)))


@dataclass(frozen=True)
class Resources:
    """What one process of a group reserves, and how many there are."""

    processes: int
    cpus: float
    gpus: float

    @property
    def threads(self) -> int:
        """Threads for a process's own computation on CPUs."""
        return max(1, round(self.cpus))

    @property
    def device(self) -> str:
        """Where a process computes."""
        return "cuda" if self.gpus else "cpu"


def training_resources(config: ClusterConfig) -> Resources:
    """Return what training workers reserve; the rest is left to readers, so that reading never starves.

    Raises:
        UserError: the cluster has less than is asked for, also after `cluster.wait_seconds`.
    """
    _wait_for(config, config.workers)
    total = total_resources()
    cpus = config.cpus_per_worker
    if cpus is None:
        share = max(0.1, total.get("CPU", 0) - SPARE_CPUS) / config.workers
        # On a GPU machine the workers need few CPUs; without GPUs they compute on them.
        cpus = min(share, 4.0) if config.gpus_per_worker else share
        cpus = float(int(cpus)) if cpus >= 1 else math.floor(100 * cpus) / 100
    _check_fits(total, "CPU", cpus * config.workers + LEAST_READER_CPUS, "cluster.workers or cluster.cpus_per_worker")
    _check_fits(total, "GPU", config.gpus_per_worker * config.workers, "cluster.workers or cluster.gpus_per_worker")
    return Resources(config.workers, cpus, config.gpus_per_worker)


def stream_readers(streams: int = 1, training: Resources | None = None) -> tuple[int, float]:
    """Return how many reading tasks each of some streams runs at the same time, and the CPUs that each reserves.

    Args:
        streams: how many there are.
        training: what they run beside; it leaves them the other CPUs.
    """
    import ray

    left = total_resources().get("CPU", 1) - (training.processes * training.cpus if training else 0)
    nodes = sum(node["Alive"] for node in ray.nodes())  # a task must fit on one
    cpus = max(LEAST_READER_CPUS, min(READER_CPUS, math.floor(100 * left / nodes) / 100))
    return max(1, min(MOST_READERS, int(left / cpus / streams + 1e-6))), cpus


def inference_resources(config: ClusterConfig) -> Resources:
    """Return what batch-inference processes reserve: one CPU each, and a GPU where training uses GPUs.

    Every process computes with one thread, so that results don't depend on how many there are.
    """
    _wait_for(config, 1)
    total = total_resources()
    gpus = min(1.0, config.gpus_per_worker)
    _check_fits(total, "GPU", gpus, "cluster.gpus_per_worker")
    fit = int(total.get("GPU", 0) / gpus) if gpus else int(total.get("CPU", 1))
    processes = max(1, min(config.inference_workers or fit, fit))
    return Resources(processes, 1.0 if not gpus else 0.5, gpus)


def _wait_for(config: ClusterConfig, processes: int) -> None:
    """Wait for the GPUs that processes reserve, and for the CPUs if their number is given."""
    process = {"GPU": float(config.gpus_per_worker), "CPU": float(config.cpus_per_worker or 1)}
    wait_for_resources({name: amount for name, amount in process.items() if amount}, processes, config.wait_seconds)


def _check_fits(total: dict[str, float], name: str, wanted: float, setting: str) -> None:
    if wanted > total.get(name, 0) + 1e-6:
        raise UserError(
            f"{wanted:g} {name}s are needed but the cluster has {total.get(name, 0):g}",
            where="cluster",
            fix=f"lower {setting}, or use a larger cluster",
        )
