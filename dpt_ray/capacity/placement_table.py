"""Where the workers and readers of a training run, as text for `--dry-run`."""

from dpt_ray.capacity.size_table import number
from dpt_ray.capacity.sizes import RunSize
from dpt_ray.distributed.placement import Plan
from dpt_ray.tables import text_table


def describe_placement(plan: Plan) -> list[str]:
    """Return the placement as lines: a row for the nodes of one size that host the same."""
    kinds: dict[tuple[float, float, int, int], int] = {}
    for planned in plan.nodes:
        kind = (planned.node.cpus, planned.node.gpus, planned.workers, planned.readers)
        kinds[kind] = kinds.get(kind, 0) + 1
    wish = plan.wish
    gpus = f" and {wish.gpus_per_worker:g} GPUs" if wish.gpus_per_worker else ""
    rows = [
        (
            f"{count} of {cpus:g} CPUs" + (f" and {has_gpus:g} GPUs" if has_gpus else ""),
            *(f"{hosted} each" if count > 1 else f"{hosted}" for hosted in (workers, readers)),
        )
        for (cpus, has_gpus, workers, readers), count in kinds.items()
    ]
    return [
        f"placement of a training: {wish.workers} {'worker' if wish.workers == 1 else 'workers'} of "
        f"{plan.cpus:g} CPUs{gpus}, read tasks of {plan.reader_cpus:g} CPUs while it streams:",
        text_table([("nodes", "workers", "read tasks"), *rows], header=True),
    ]


def describe_readers(size: RunSize, plan: Plan) -> list[str]:
    """Return a line that compares the CPUs that readers need with those that the placement leaves them."""
    trainings = [stage for stage in size.stages if stage.checkpoint and stage.streams]
    if not trainings:
        return []
    stage = max(trainings, key=lambda stage: stage.readers)
    gpus = plan.wish.workers * plan.wish.gpus_per_worker
    needed, left = stage.readers * gpus, plan.reader_cpus * sum(node.readers for node in plan.nodes)
    then = "" if left >= needed else ", so training waits for data: add nodes with CPUs"
    return [f"CPUs for readers: {stage.name} on {gpus:g} GPUs needs {number(needed)}, the nodes leave {left:g}{then}"]
