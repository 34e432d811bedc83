"""What the steps of a run cost: their time, the CPUs and GPUs of the cluster meanwhile, and the price of these."""

from collections.abc import Mapping
from dataclasses import dataclass

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.data.storage.json_records import Record, optional
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.graph import in_order

SECONDS_AN_HOUR = 3600.0


@dataclass(frozen=True)
class StepCost(Record):
    """One step in `steps.json`.

    Attributes:
        title: names it for people.
        address: of its artifact.
        seconds: how long making it took, whenever that was.
        cpus: of the cluster, or the run's share of it; it and the next one are None if an older version made it.
        gpus: as `cpus`.
        cost: in the currency of the settings; None without prices, or if the CPUs and GPUs are not known.
    """

    title: str
    address: str
    seconds: float
    cpus: float | None = optional()
    gpus: float | None = optional()
    cost: float | None = optional()


@dataclass(frozen=True, kw_only=True)
class RunSteps(Record):
    """The content of `steps.json`.

    Attributes:
        steps: all steps, parents before children, also those that the run found already made.
        currency: of all costs; None without prices.
        cost: of all steps whose cost is known; None if none is.
    """

    steps: tuple[StepCost, ...]
    currency: str | None = optional()
    cost: float | None = optional()


def run_steps(targets: list[Step], artifacts: Mapping[Step, Artifact], cluster: ClusterConfig) -> RunSteps:
    """Return all steps that targets need, with what each cost."""
    steps = tuple(_cost(step, artifacts[step], cluster) for step in in_order(targets))
    known = [step.cost for step in steps if step.cost is not None]
    currency = cluster.currency if _has_prices(cluster) else None
    return RunSteps(steps=steps, currency=currency, cost=round(sum(known), 6) if known else None)


def step_cost(artifact: Artifact, cluster: ClusterConfig) -> float | None:
    """Return the cost of making an artifact at the prices of the settings; None if it is not known."""
    if artifact.capacity is None or not _has_prices(cluster):
        return None
    cpus, gpus = artifact.capacity
    an_hour = cpus * (cluster.price_per_cpu_hour or 0) + gpus * (cluster.price_per_gpu_hour or 0)
    return round(artifact.seconds / SECONDS_AN_HOUR * an_hour, 6)


def _cost(step: Step, artifact: Artifact, cluster: ClusterConfig) -> StepCost:
    cpus, gpus = artifact.capacity or (None, None)
    return StepCost(step.title, step.address, artifact.seconds, cpus, gpus, step_cost(artifact, cluster))


def _has_prices(cluster: ClusterConfig) -> bool:
    return cluster.price_per_cpu_hour is not None or cluster.price_per_gpu_hour is not None
