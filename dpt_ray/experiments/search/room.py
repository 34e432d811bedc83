"""How many trials of a search run at the same time: as many as CPUs, GPUs and memory allow."""

from dataclasses import dataclass

from dpt_ray.capacity.trial_memory import trial_bytes
from dpt_ray.config.schema import RunConfig
from dpt_ray.config.search_settings import TuneConfig
from dpt_ray.distributed import resources
from dpt_ray.distributed.cluster_memory import runs_in_memory
from dpt_ray.tables import format_bytes


@dataclass(frozen=True)
class Room:
    """How many trials run at the same time.

    Attributes:
        runs: their number.
        limit: what allows no more, in words; None if no more are wanted.
    """

    runs: int
    limit: str | None

    def __str__(self) -> str:
        return f"{self.runs} at the same time" + (f" ({self.limit})" if self.limit else "")


def room_for(tune: TuneConfig, config: RunConfig, left: int) -> Room:
    """Return how many trials run at the same time on the cluster that this process is connected to.

    Args:
        tune: the settings of the search.
        config: the settings of one of its trials, for the memory that it needs.
        left: number of trials that have not ended.

    Raises:
        UserError: the cluster is too small for one trial.
    """
    needed = int(tune.trial_gib * 2**30) if tune.trial_gib else trial_bytes(config)
    wanted = min(tune.max_concurrent or left, left)
    by_cpus, by_memory = resources.concurrent_runs(config.cluster, wanted), max(1, runs_in_memory(needed))
    if by_cpus <= by_memory:
        return Room(by_cpus, "CPUs and GPUs allow no more" if by_cpus < wanted else None)
    reason = f"memory allows no more, at {format_bytes(needed)} a trial"
    return Room(resources.concurrent_runs(config.cluster, by_memory), reason)
