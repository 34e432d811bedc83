"""Trains with 1 to 4 workers: one on a node, four when another node joins, and three when the first node is lost.

Argument: a folder. Prints, as JSON, what became of it, beside a training with one worker that nothing disturbs.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from cluster_trainings import CONFIG, STEPS, cluster_of, remove_node, say, small_training, train
from ray.cluster_utils import Cluster
from ray_nodes import STORE_BYTES

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.core.training.state import TrainState
from dpt_ray.distributed.training_job import HISTORY_FILE
from dpt_ray.networks.files import NETWORK_FILE

JOIN_AT, LOST_AT = 6, 13
"""Steps at which a node joins, and at which one is lost."""
WAIT_SECONDS = 240.0


def build(folder: Path) -> TrainState:
    state = small_training()
    state.objective.register_forward_pre_hook(partial(wait_for_the_cluster, folder, state))
    return state


def wait_for_the_cluster(folder: Path, state: TrainState, objective, arguments) -> None:
    """Note each step of the first worker; stand still at the two steps until the cluster has changed."""
    import ray.train

    context = ray.train.get_context()
    step, workers = state.images_seen // CONFIG.batch, context.get_world_size()
    if context.get_world_rank() != 0:
        return
    with (folder / "steps").open("a") as steps:
        steps.write(f"{step} {workers}\n")
    if step == JOIN_AT and workers == 1:
        say(folder / "join")
        wait_until(lambda: (folder / "joined").exists())
        time.sleep(0.5)  # each of the steps that follow, until the notice arrives
    elif step > JOIN_AT and workers == 1 and not (folder / "lose").exists():
        time.sleep(0.5)
    elif step == LOST_AT and not (folder / "lose").exists():
        say(folder / "lose")
        time.sleep(WAIT_SECONDS)
        raise AssertionError("the node was not removed")


def wait_until(is_so) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "the cluster did not change"
        time.sleep(0.05)


def change_the_cluster(cluster: Cluster, folder: Path) -> None:
    wait_until(lambda: (folder / "join").exists())
    (first,) = cluster.worker_nodes
    cluster.add_node(num_cpus=5, object_store_memory=STORE_BYTES)
    say(folder / "joined")
    wait_until(lambda: (folder / "lose").exists())
    remove_node(cluster, first.node_id)


def main(folder: Path) -> None:
    elastic = ClusterConfig(workers=(1, 4), cpus_per_worker=1.5, grow_seconds=1, max_failures=2)
    with cluster_of(2) as cluster, ThreadPoolExecutor(1) as threads:
        train(folder, "fixed", ClusterConfig(workers=1, cpus_per_worker=1.5), small_training, row=1)
        training = threads.submit(train, folder, "elastic", elastic, partial(build, folder), row=1)
        change_the_cluster(cluster, folder)  # a node can be added in the main thread alone
        events = training.result()
        fixed, history = (json.loads((folder / name / HISTORY_FILE).read_bytes()) for name in ("fixed", "elastic"))
        assert (folder / "elastic" / NETWORK_FILE).exists()
        resized = [event.fields for event in events if event.kind.name == "resized"]
        found = {
            "steps": [tuple(map(int, step.split())) for step in (folder / "steps").read_text().splitlines()],
            "all steps": STEPS,
            "lost at": LOST_AT,
            "resized": [[fields["before"], fields["workers"]] for fields in resized],
            "events": [event.kind.name for event in events if event.kind.name != "checkpoint_stored"],
            "losses": [[row["images"], row["loss"], other["loss"]] for row, other in zip(fixed, history, strict=True)],
        }
        print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
