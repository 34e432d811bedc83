"""Trains on a head of 0 CPUs and two nodes of 2, without checkpoints by the clock; one node is announced to go.

Argument: a folder. Prints, as JSON, what became of it.
"""

import json
import os
import sys
import threading
import time
from functools import partial
from pathlib import Path

import ray
from lost_node import CONFIG, LOST_AT, finish
from numbered_shards import IMAGE_SIZE, write_numbered_shards
from ray.cluster_utils import Cluster
from ray_nodes import STORE_BYTES

from dpt_ray.config.schema import ClusterConfig, DataConfig
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.core.training.loop import Schedule
from dpt_ray.core.training.state import TrainState
from dpt_ray.distributed import ray_internals
from dpt_ray.distributed.cluster import connect, training_resources
from dpt_ray.distributed.events import Event
from dpt_ray.distributed.progress import ProgressLine
from dpt_ray.distributed.ray_training import run_training
from dpt_ray.distributed.training_job import HISTORY_FILE, TrainingJob
from dpt_ray.networks.files import NETWORK_FILE

ROW = 4 * CONFIG.batch
NOTICE_SECONDS = 60.0


def build(announced: Path | None) -> TrainState:
    state = generator_training(CONFIG, image_size=IMAGE_SIZE, channels=1, num_classes=3, seed=0)
    if announced is not None:
        state.objective.register_forward_pre_hook(partial(wait_for_the_notice, announced))
    return state


def wait_for_the_notice(announced: Path, objective, arguments) -> None:
    """Note each step; in one in the middle of a row, say which node this is on and wait until it is announced."""
    import ray.train

    objective.calls = getattr(objective, "calls", 0) + 1
    if ray.train.get_context().get_world_rank() != 0:
        return
    with announced.with_suffix(".steps").open("a") as steps:
        steps.write(f"{objective.calls}\n")
    if objective.calls == LOST_AT + 2 and not announced.exists():
        part = announced.with_suffix(".part")
        part.write_text(ray.get_runtime_context().get_node_id())
        part.rename(announced)
        deadline = time.monotonic() + NOTICE_SECONDS
        while not ray_internals.preempted_nodes():
            assert time.monotonic() < deadline, "Ray gave no notice"
            time.sleep(0.05)


class Line(ProgressLine):
    """Keeps the events."""

    def __init__(self, title: str):
        super().__init__(title, CONFIG.images, "images")
        self.events: list[Event] = []

    def report(self, event: Event) -> None:
        super().report(event)
        self.events.append(event)


def train(folder: Path, name: str, announced: Path | None) -> tuple[list[bytes], list[Event]]:
    cluster = ClusterConfig(workers=2, cpus_per_worker=0.5, max_failures=0)
    source = write_numbered_shards(str(folder / "shards"), [30, 11, 23])
    job = TrainingJob(
        config=CONFIG,
        data=DataConfig(lanes=8, shuffle_window=1000),
        cluster=cluster,
        build=partial(build, announced),
        finish=finish,
        sources={"images": (source, CONFIG.batch)},
        schedule=Schedule(CONFIG.images, CONFIG.batch, log_every=ROW, checkpoint_seconds=1e6),
        seed=0,
        folder=str(folder / name),
    )
    line = Line(name)
    run_training(job, resources=training_resources(cluster), progress=line)
    return [(folder / name / file).read_bytes() for file in (NETWORK_FILE, HISTORY_FILE)], line.events


def main(folder: Path) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES})
    for _ in range(2):
        cluster.add_node(num_cpus=2, object_store_memory=STORE_BYTES)
    os.environ["RAY_ADDRESS"] = cluster.address
    connect(ClusterConfig())
    undisturbed, _ = train(folder, "undisturbed", None)
    announced = folder / "announced"

    def announce() -> None:
        while not announced.exists():
            time.sleep(0.05)
        assert ray_internals.drain_node(announced.read_text(), "a test", NOTICE_SECONDS)

    threading.Thread(target=announce, daemon=True).start()
    disturbed, events = train(folder, "disturbed", announced)
    steps = [int(line) for line in announced.with_suffix(".steps").read_text().split()]
    second = steps.index(1, 1)
    print(
        json.dumps(
            {
                "equal": disturbed == undisturbed,
                "events": [event.kind.name for event in events if event.kind.name != "checkpoint_stored"],
                "goes on from": next(event.fields["images"] for event in events if event.kind.name == "preempted"),
                "announced in step": LOST_AT + 2,
                "batch": CONFIG.batch,
                "steps": CONFIG.images // CONFIG.batch,
                "steps before": steps[second - 1],
                "steps after": len(steps) - second,
            }
        )
    )
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
