"""Checks before anything is made whether the nodes host the workers of the trainings, and describes where."""

from collections.abc import Iterable

from dpt_ray.capacity.placement_table import describe_placement
from dpt_ray.config.schema import RunConfig
from dpt_ray.distributed.address import named_address
from dpt_ray.distributed.cluster_nodes import nodes_of_job
from dpt_ray.distributed.connection import connect
from dpt_ray.distributed.placement import Plan, plan_placement
from dpt_ray.distributed.resources import training_resources, training_wish
from dpt_ray.distributed.wait_for_nodes import waiting
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.store import ArtifactStore
from dpt_ray.pipeline.artifacts.trained_network import TrainingFacts
from dpt_ray.pipeline.execution.step import Step


def check_cluster(config: RunConfig, steps: Iterable[Step], store: ArtifactStore) -> None:
    """Check that the cluster that RAY_ADDRESS names hosts the workers of missing trainings.

    Nothing is checked if steps wait for nodes.

    Raises:
        UserError: the cluster cannot be reached, or its nodes do not host the workers.
    """
    if named_address() and not config.cluster.wait_seconds and _trains(steps, store):
        connect(config.cluster)
        training_resources(config.cluster, config.data.lanes)


def find_placement(config: RunConfig, steps: Iterable[Step], store: ArtifactStore) -> tuple[Plan | None, list[str]]:
    """Return where the workers of missing trainings would run, if that is known, and lines about it.

    Raises:
        UserError: the nodes do not host the workers, and no others are waited for.
    """
    if not _trains(steps, store):
        return None, []
    try:
        nodes = nodes_of_job(config.cluster)
    except UserError as error:
        return None, [f"placement of a training: not known ({error})", ""]
    found = plan_placement(nodes, training_wish(config.cluster, config.data.lanes))
    if isinstance(found, Plan):
        return found, [*describe_placement(found), ""]
    if not config.cluster.wait_seconds:
        raise UserError(found.what, where="cluster", fix=found.fix)
    return None, [f"placement of a training: {waiting(found, 0, config.cluster.wait_seconds).text}", ""]


def _trains(steps: Iterable[Step], store: ArtifactStore) -> bool:
    """Whether any of the steps is a training that is still to be made."""
    trainings = (step for step in steps if issubclass(step.facts_type, TrainingFacts))
    return any(store.find(step.name, step.fingerprint) is None for step in trainings)
