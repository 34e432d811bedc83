"""The CPUs and GPUs that the processes of a job reserve, planned for the nodes that there are."""

from dataclasses import dataclass

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.distributed.address import named_address
from dpt_ray.distributed.cluster_nodes import cluster_nodes, this_machine
from dpt_ray.distributed.connection import is_connected
from dpt_ray.distributed.node_capacity import Wish
from dpt_ray.distributed.placement import (
    Plan,
    Refusal,
    fitting_runs,
    plan_inference,
    plan_placement,
    readers_beside,
)
from dpt_ray.distributed.shared_cluster import is_trial, runs_here
from dpt_ray.distributed.wait_for_nodes import Found, wait_for_nodes
from dpt_ray.errors import UserError


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
    wish = training_wish(config, lanes).shared(runs_here())
    process = {"CPU": float(config.cpus_per_worker or 1), "GPU": float(config.gpus_per_worker)}
    found = wait_for_nodes(lambda: plan_placement(cluster_nodes(), wish), process, wish.workers, config.wait_seconds)
    plan = _accepted(found)
    return Resources(plan.wish.workers, plan.cpus, config.gpus_per_worker)


def trains_in_this_process(config: ClusterConfig) -> bool:
    """Whether trainings run in this process, on its CPUs, and not in workers; see `cluster.workers`."""
    return config.workers == 0 and not config.gpus_per_worker and not named_address() and not is_trial()


def check_machine(config: ClusterConfig, lanes: int | None = None) -> None:
    """Check that a local Ray on this machine would have the GPUs and CPUs that the settings require.

    Nothing is checked if RAY_ADDRESS names a cluster, which may add nodes, or if this process is connected already.

    Args:
        config: the settings.
        lanes: see `training_wish`.

    Raises:
        UserError: this machine has fewer.
    """
    if named_address() or is_connected():
        return
    _accepted(plan_placement([this_machine(config)], training_wish(config, lanes), place="this machine"))


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
    fit = max(1, slots // runs_here())
    return Resources(min(config.inference_workers or fit, fit), process["CPU"], gpus)


def stream_readers(streams: int = 1, training: Resources | None = None) -> tuple[int, float]:
    """Return the number of read tasks that each stream runs at the same time, and the CPUs that a task reserves.

    Args:
        streams: number of streams.
        training: the training that runs beside the streams and leaves them the other CPUs.
    """
    workers = training or Resources(0, 0.0, 0.0)
    wish = Wish(workers.processes, workers.cpus, workers.gpus, streams, runs_here())
    return readers_beside(cluster_nodes(), wish)


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


def reserved_cpus() -> float:
    """Return the CPUs that Ray reserves for this process, which must be one of Ray's workers."""
    import ray

    return float(ray.get_runtime_context().get_assigned_resources().get("CPU", 0.0))


def _accepted(found: Found | Refusal) -> Found:
    if isinstance(found, Refusal):
        raise UserError(found.what, where="cluster", fix=found.fix)
    return found
