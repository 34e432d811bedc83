"""Trains twice on a head of 0 CPUs and two nodes of 2; the second time, the node of the first worker is removed.

Arguments: a folder, and how many MiB of a source are kept decoded. Prints, as JSON, whether the results are equal.
"""

import json
import sys
import threading
import time
from functools import partial
from pathlib import Path

import ray
from cluster_trainings import cluster_of, remove_node, results, say, small_training, train

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.core.training.state import TrainState
from dpt_ray.distributed.resources import reserved_cpus

LOST_AT = 12
"""Step at which the node is removed."""


def build(lost: Path) -> TrainState:
    state = small_training()
    state.objective.register_forward_pre_hook(partial(wait_for_the_end, lost))
    return state


def wait_for_the_end(lost: Path, objective, arguments) -> None:
    """Note what each worker reserves. Say once, on the first one, which node it is on, and wait until that is gone."""
    import ray.train

    if not hasattr(objective, "calls"):
        (lost.parent / ("after" if lost.exists() else "before")).write_text(str(reserved_cpus()))
    objective.calls = getattr(objective, "calls", 0) + 1
    if objective.calls == LOST_AT and not lost.exists() and ray.train.get_context().get_world_rank() == 0:
        say(lost, ray.get_runtime_context().get_node_id())
        time.sleep(120)
        raise AssertionError("the node was not removed")


def main(folder: Path, keep_mib: int) -> None:
    config = ClusterConfig(workers=2, max_failures=2, keep_mib=keep_mib)
    lost = folder / "lost"
    with cluster_of(2, 2) as cluster:

        def remove() -> None:
            while not lost.exists():
                time.sleep(0.1)
            remove_node(cluster, lost.read_text())

        train(folder, "undisturbed", config, small_training)
        threading.Thread(target=remove, daemon=True).start()
        train(folder, "disturbed", config, partial(build, lost))
        alive = sorted(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
        equal = results(folder, "disturbed") == results(folder, "undisturbed")
        reserved = {name: float((folder / name).read_text()) for name in ("before", "after")}
        print(json.dumps({"equal": equal, "alive": alive, **reserved}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
