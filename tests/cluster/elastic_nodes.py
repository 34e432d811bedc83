"""Trains with 1 to 4 workers: one on a node, four when another node joins, and three when the first node is lost.

Argument: a folder. Prints, as JSON, what became of it, beside a training with one worker that nothing disturbs.
"""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import ray
from drained_node import Line
from lost_node import CONFIG, finish
from numbered_shards import IMAGE_SIZE, write_numbered_shards
from ray.cluster_utils import Cluster
from ray_nodes import STORE_BYTES

from dpt_ray.config.schema import ClusterConfig, DataConfig
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.core.training.loop import Schedule
from dpt_ray.core.training.state import TrainState
from dpt_ray.distributed.cluster import connect, training_resources
from dpt_ray.distributed.ray_training import run_training
from dpt_ray.distributed.training_job import HISTORY_FILE, TrainingJob
from dpt_ray.networks.files import NETWORK_FILE

STEPS = CONFIG.images // CONFIG.batch
JOIN_AT, LOST_AT = 6, 13
"""Steps at which a node joins, and at which one is lost."""
WAIT_SECONDS = 240.0


def build(folder: Path | None) -> TrainState:
    state = generator_training(CONFIG, image_size=IMAGE_SIZE, channels=1, num_classes=3, seed=0)
    if folder is not None:
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


def say(file: Path, text: str = "") -> None:
    part = file.with_suffix(".part")
    part.write_text(text)
    part.rename(file)


def wait_until(is_so) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "the cluster did not change"
        time.sleep(0.05)


def train(folder: Path, name: str, cluster: ClusterConfig, disturbed: Path | None) -> Line:
    data = DataConfig(lanes=8, shuffle_window=1000)
    source = write_numbered_shards(str(folder / "shards"), [30, 11, 23])
    job = TrainingJob(
        config=CONFIG,
        data=data,
        cluster=cluster,
        build=partial(build, disturbed),
        finish=finish,
        sources={"images": (source, CONFIG.batch)},
        schedule=Schedule(CONFIG.images, CONFIG.batch, log_every=CONFIG.batch, checkpoint_seconds=0.01),
        seed=0,
        folder=str(folder / name),
    )
    line = Line(name)
    run_training(job, resources=training_resources(cluster, data.lanes), progress=line)
    return line


def change_the_cluster(cluster: Cluster, folder: Path) -> None:
    wait_until(lambda: (folder / "join").exists())
    (first,) = cluster.worker_nodes
    cluster.add_node(num_cpus=5, object_store_memory=STORE_BYTES)
    say(folder / "joined")
    wait_until(lambda: (folder / "lose").exists())
    cluster.remove_node(first, allow_graceful=False)


def main(folder: Path) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES})
    cluster.add_node(num_cpus=2, object_store_memory=STORE_BYTES)
    os.environ["RAY_ADDRESS"] = cluster.address
    connect(ClusterConfig())
    train(folder, "fixed", ClusterConfig(workers=1, cpus_per_worker=1.5), None)
    elastic = ClusterConfig(workers=(1, 4), cpus_per_worker=1.5, grow_seconds=1, max_failures=2)
    with ThreadPoolExecutor(1) as threads:
        training = threads.submit(train, folder, "elastic", elastic, folder)
        change_the_cluster(cluster, folder)  # a node can be added in the main thread alone
        line = training.result()
    fixed, history = (json.loads((folder / name / HISTORY_FILE).read_bytes()) for name in ("fixed", "elastic"))
    steps = [tuple(map(int, step.split())) for step in (folder / "steps").read_text().splitlines()]
    assert (folder / "elastic" / NETWORK_FILE).exists()
    print(
        json.dumps(
            {
                "steps": steps,
                "all steps": STEPS,
                "lost at": LOST_AT,
                "resized": [
                    [event.fields["before"], event.fields["workers"]]
                    for event in line.events
                    if event.kind.name == "resized"
                ],
                "events": [event.kind.name for event in line.events if event.kind.name != "checkpoint_stored"],
                "losses": [
                    [row["images"], row["loss"], other["loss"]] for row, other in zip(fixed, history, strict=True)
                ],
            }
        )
    )
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
