"""Connects to Ray, and plans how the processes of a job share its CPUs and GPUs."""

import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.distributed import local_ray
from dpt_ray.distributed.address import join, named_address
from dpt_ray.distributed.lost_ray import outlive_raylet
from dpt_ray.distributed.node_capacity import Node, Wish
from dpt_ray.distributed.placement import (
    Plan,
    Refusal,
    fitting_runs,
    plan_inference,
    plan_placement,
    readers_beside,
)
from dpt_ray.distributed.temporary_space import check_temporary_space
from dpt_ray.distributed.wait_for_nodes import Found, wait_for_nodes
from dpt_ray.errors import UserError
from dpt_ray.text import one_line


def join_cluster(runs: int) -> None:
    """Set up a process that Ray started for one of `runs` concurrent runs, which share the cluster equally."""
    global _is_trial
    _is_trial = True
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
    # The longest time that Ray Train waits for the CPUs and GPUs of its workers before they are planned again.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    # The interval in which Ray Train looks for nodes that are about to be reclaimed.
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def _set_environment(*, local: bool) -> None:
    """Set the environment variables that Ray reads. Workers get them by inheritance or from Ray Train."""
    if local:
        local_ray.set_environment()
    outlive_raylet()
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
_is_trial = False
"""Whether Ray Tune started this process. Ray Train refuses to train in such a process itself."""


def share_cluster(runs: int) -> None:
    """Let this process plan with an equal share of the cluster for each of `runs` runs; see `concurrent_runs`."""
    global _runs
    _runs = runs


def runs_here() -> int:
    """Return the number of runs that share the cluster, as `share_cluster` set it."""
    return _runs


def reserved_cpus() -> float:
    """Return the CPUs that Ray reserves for this process, which must be one of Ray's workers."""
    import ray

    return float(ray.get_runtime_context().get_assigned_resources().get("CPU", 0.0))


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
    nodes, wish = cluster_nodes(), training_wish(config)
    _accepted(plan_placement(nodes, wish))
    most = max(1, min(wanted, fitting_runs(nodes, wish)))
    shared = (runs for runs in range(most, 1, -1) if isinstance(plan_placement(nodes, wish.shared(runs)), Plan))
    return next(shared, 1)


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
    return config.workers == 0 and not config.gpus_per_worker and not named_address() and not _is_trial


def cluster_nodes() -> list[Node]:
    """Return the nodes of the cluster that this process is connected to; one that is draining counts as lost."""
    import ray

    draining = _draining()
    listed = [(node["NodeID"], node) for node in ray.nodes()]
    return [_node(name, node["Resources"], alive=node["Alive"] and name not in draining) for name, node in listed]


def shared_capacity(config: ClusterConfig) -> tuple[float, float]:
    """Return the CPUs and GPUs of all nodes on which processes run, or this process's share of them (`share_cluster`).

    Nodes that drain count, since they are paid for. Without a connection they are those of this machine.
    """
    nodes = [this_machine(config)]
    if _is_connected():
        import ray

        nodes = [_node("", node["Resources"], alive=node["Alive"]) for node in ray.nodes() if _hosts_tasks(node)]
    return sum(node.cpus for node in nodes) / _runs, sum(node.gpus for node in nodes) / _runs


def _draining() -> set[str]:
    """Return the ids of nodes that are about to be reclaimed, on which Ray starts nothing more."""
    from dpt_ray.distributed import ray_internals

    return set(ray_internals.draining_nodes())


def answering_nodes() -> list[Node]:
    """Return the nodes of the cluster; one that is draining or does not answer counts as lost.

    Ray itself notices the loss of a node after half a minute of missed heartbeats.
    """
    import ray

    listed, draining = ray.nodes(), _draining()
    usable = [node["Alive"] and node["NodeID"] not in draining for node in listed]
    addresses = [(node["NodeManagerAddress"], node["NodeManagerPort"]) for node in listed]
    places = [address if use else None for address, use in zip(addresses, usable, strict=True)]
    with ThreadPoolExecutor(min(32, len(listed))) as threads:
        alive = threads.map(lambda place: place is not None and _answers(*place), places)
        pairs = list(zip(listed, alive, strict=True))
    return [_node(node["NodeID"], node["Resources"], alive=answers) for node, answers in pairs]


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


ANSWER_SECONDS = 3.0
"""Longest time to wait for the answer of a node."""


def nodes_of_job(config: ClusterConfig) -> list[Node]:
    """Return the nodes that a job would run on: of the cluster that RAY_ADDRESS names, or this machine.

    Raises:
        UserError: the named cluster cannot be reached.
    """
    if not _is_connected():
        if not named_address():
            return [this_machine(config)]
        connect(config)
    return cluster_nodes()


def _is_connected() -> bool:
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def _node(name: str, resources: Mapping[str, float], *, alive: bool) -> Node:
    return Node(name, resources.get("CPU", 0.0), resources.get("GPU", 0.0), alive)


def object_store_bytes() -> float:
    """Return the bytes of the object stores of all nodes on which tasks run, or this process's share of them."""
    import ray

    sizes = [node["Resources"].get("object_store_memory", 0.0) for node in ray.nodes() if _hosts_tasks(node)]
    return float(sum(sizes)) / _runs


def _hosts_tasks(node: Mapping[str, Any]) -> bool:
    return _node("", node["Resources"], alive=node["Alive"]).usable


def training_wish(config: ClusterConfig, lanes: int | None = None) -> Wish:
    """Return what the training workers of one run need.

    Args:
        config: the settings.
        lanes: the setting `data.lanes`, which bounds the number of workers of a range.
    """
    most, *fewer = config.worker_counts(lanes)
    return Wish(most, config.cpus_per_worker, config.gpus_per_worker, fewer=tuple(fewer))


def training_resources(config: ClusterConfig, lanes: int | None = None) -> Resources:
    """Return the resources of training workers. They leave at least `LEAST_READER_CPUS` to readers.

    Args:
        config: the settings.
        lanes: see `training_wish`.

    Raises:
        UserError: the nodes do not host what the settings require, even after `cluster.wait_seconds`.
    """
    wish = training_wish(config, lanes).shared(_runs)
    process = {"CPU": float(config.cpus_per_worker or 1), "GPU": float(config.gpus_per_worker)}
    found = wait_for_nodes(lambda: plan_placement(cluster_nodes(), wish), process, wish.workers, config.wait_seconds)
    plan = _accepted(found)
    return Resources(plan.wish.workers, plan.cpus, config.gpus_per_worker)


def check_machine(config: ClusterConfig, lanes: int | None = None) -> None:
    """Check that a local Ray on this machine would have the GPUs and CPUs that the settings require.

    Nothing is checked if RAY_ADDRESS names a cluster, which may add nodes, or if this process is connected already.

    Args:
        config: the settings.
        lanes: see `training_wish`.

    Raises:
        UserError: this machine has fewer.
    """
    if named_address() or _is_connected():
        return
    _accepted(plan_placement([this_machine(config)], training_wish(config, lanes), place="this machine"))


def this_machine(config: ClusterConfig) -> Node:
    """Return this machine as the only node of a local Ray."""
    import torch

    return Node("this machine", float(config.local_cpus or os.cpu_count() or 1), float(torch.cuda.device_count()))


def stream_readers(streams: int = 1, training: Resources | None = None) -> tuple[int, float]:
    """Return the number of read tasks that each stream runs at the same time, and the CPUs that a task reserves.

    Args:
        streams: number of streams.
        training: the training that runs beside the streams and leaves them the other CPUs.
    """
    workers = training or Resources(0, 0.0, 0.0)
    wish = Wish(workers.processes, workers.cpus, workers.gpus, streams, _runs)
    return readers_beside(cluster_nodes(), wish)


def inference_resources(config: ClusterConfig) -> Resources:
    """Return the resources of batch-inference processes: a CPU each, or a GPU and half a CPU where training uses GPUs.

    Every process computes with one thread, so that results do not depend on the number of processes.

    Raises:
        UserError: the nodes host no such process, even after `cluster.wait_seconds`.
    """
    gpus = min(1.0, config.gpus_per_worker)
    process = {"CPU": 0.5 if gpus else 1.0, "GPU": gpus}
    slots = _accepted(
        wait_for_nodes(lambda: plan_inference(cluster_nodes(), process["CPU"], gpus), process, 1, config.wait_seconds)
    )
    fit = max(1, slots // _runs)
    return Resources(min(config.inference_workers or fit, fit), process["CPU"], gpus)


def _accepted(found: Found | Refusal) -> Found:
    if isinstance(found, Refusal):
        raise UserError(found.what, where="cluster", fix=found.fix)
    return found
