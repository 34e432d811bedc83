"""What the programs of this folder share: a cluster of some nodes on this machine, and a small training on it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from numbered_shards import IMAGE_SIZE, write_numbered_shards
from ray.cluster_utils import Cluster
from ray_nodes import STORE_BYTES

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.core.training.loop import Schedule
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.weights import save_network
from dpt_ray.distributed.connection import connect
from dpt_ray.distributed.events import Event
from dpt_ray.distributed.progress import ProgressLine
from dpt_ray.distributed.ray_training import run_training
from dpt_ray.distributed.resources import training_resources
from dpt_ray.distributed.training_job import HISTORY_FILE, TrainingJob
from dpt_ray.networks.files import NETWORK_FILE

CONFIG = GeneratorConfig(model={"dim": 16, "depth": 2, "heads": 2}, batch=16, images=320, flip=False, process="edm")
STEPS = CONFIG.images // CONFIG.batch


@contextmanager
def cluster_of(*cpus: int) -> Iterator[Cluster]:
    """Start a head of 0 CPUs and nodes with these CPUs, and connect to them. The dashboard would cost more than all."""
    head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for number in cpus:
            cluster.add_node(num_cpus=number, object_store_memory=STORE_BYTES)
        os.environ["RAY_ADDRESS"] = cluster.address
        connect(ClusterConfig())
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def remove_node(cluster: Cluster, name: str) -> None:
    """Kill the processes of a node, given its id."""
    (node,) = (node for node in cluster.worker_nodes if node.node_id == name)
    cluster.remove_node(node, allow_graceful=False)


def small_training() -> TrainState:
    """Return the state of a generator before its first step."""
    return generator_training(CONFIG, image_size=IMAGE_SIZE, channels=1, num_classes=3, seed=0)


def finish(state: TrainState) -> bytes:
    """Return the network's file."""
    return save_network(state.ema.model, {"kind": "test"})


def say(file: Path, text: str = "") -> None:
    """Write a file that another process waits for: it is there with its content, or not at all."""
    part = file.with_suffix(".part")
    part.write_text(text)
    part.rename(file)


class Line(ProgressLine):
    """Keeps the events."""

    def __init__(self, title: str):
        super().__init__(title, CONFIG.images, "images")
        self.events: list[Event] = []

    def report(self, event: Event) -> None:
        """See `ProgressLine`."""
        super().report(event)
        self.events.append(event)


def train(
    folder: Path,
    name: str,
    cluster: ClusterConfig,
    build: Callable[[], TrainState],
    *,
    row: int = 4,
    checkpoint_seconds: float = 0.01,
) -> list[Event]:
    """Train below a folder; return the events. `row` is the number of steps in a row of the history."""
    data = DataConfig(lanes=8, shuffle_window=1000)
    source = write_numbered_shards(str(folder / "shards"), [30, 11, 23])
    job = TrainingJob(
        config=CONFIG,
        data=data,
        cluster=cluster,
        build=build,
        finish=finish,
        sources={"images": (source, CONFIG.batch)},
        schedule=Schedule(
            CONFIG.images, CONFIG.batch, log_every=row * CONFIG.batch, checkpoint_seconds=checkpoint_seconds
        ),
        seed=0,
        folder=str(folder / name),
    )
    line = Line(name)
    run_training(job, resources=training_resources(cluster, data.lanes), progress=line)
    return line.events


def results(folder: Path, name: str) -> list[bytes]:
    """Return the files that a training has made: the network and the history."""
    return [(folder / name / file).read_bytes() for file in (NETWORK_FILE, HISTORY_FILE)]
