"""Trains twice on a head of 0 CPUs and two nodes of 2; the second time, the node of the first worker is removed.

Arguments: a folder, and how many MiB of a source are kept decoded. Prints, as JSON, whether the results are equal.
"""

import json
import os
import sys
import threading
import time
from functools import partial
from pathlib import Path

import ray
from numbered_shards import IMAGE_SIZE, write_numbered_shards
from ray.cluster_utils import Cluster
from ray_nodes import STORE_BYTES

from dpt_ray.config.schema import ClusterConfig, DataConfig, GeneratorConfig
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.core.training.loop import Schedule
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.weights import save_network
from dpt_ray.distributed.cluster import connect, reserved_cpus, training_resources
from dpt_ray.distributed.progress import ProgressLine
from dpt_ray.distributed.ray_training import run_training
from dpt_ray.distributed.training_job import HISTORY_FILE, TrainingJob
from dpt_ray.networks.files import NETWORK_FILE

CONFIG = GeneratorConfig(model={"dim": 16, "depth": 2, "heads": 2}, batch=16, images=320, flip=False, process="edm")
LOST_AT = 12
"""Step at which the node is removed."""


def build(lost: Path | None) -> TrainState:
    state = generator_training(CONFIG, image_size=IMAGE_SIZE, channels=1, num_classes=3, seed=0)
    if lost is not None:
        state.objective.register_forward_pre_hook(partial(wait_for_the_end, lost))
    return state


def wait_for_the_end(lost: Path, objective, arguments) -> None:
    """Note what each worker reserves. Say once, on the first one, which node it is on, and wait until that is gone."""
    import ray.train

    if not hasattr(objective, "calls"):
        (lost.parent / ("after" if lost.exists() else "before")).write_text(str(reserved_cpus()))
    objective.calls = getattr(objective, "calls", 0) + 1
    if objective.calls == LOST_AT and not lost.exists() and ray.train.get_context().get_world_rank() == 0:
        part = lost.with_suffix(".part")
        part.write_text(ray.get_runtime_context().get_node_id())
        part.rename(lost)
        time.sleep(120)
        raise AssertionError("the node was not removed")


def finish(state: TrainState) -> bytes:
    return save_network(state.ema.model, {"kind": "test"})


def train(folder: Path, name: str, keep_mib: int, lost: Path | None) -> list[bytes]:
    cluster = ClusterConfig(workers=2, max_failures=2, keep_mib=keep_mib)
    source = write_numbered_shards(str(folder / "shards"), [30, 11, 23])
    job = TrainingJob(
        config=CONFIG,
        data=DataConfig(lanes=8, shuffle_window=1000),
        cluster=cluster,
        build=partial(build, lost),
        finish=finish,
        sources={"images": (source, CONFIG.batch)},
        schedule=Schedule(CONFIG.images, CONFIG.batch, log_every=4 * CONFIG.batch, checkpoint_seconds=0.01),
        seed=0,
        folder=str(folder / name),
    )
    run_training(job, resources=training_resources(cluster), progress=ProgressLine(name, CONFIG.images, "images"))
    return [(folder / name / file).read_bytes() for file in (NETWORK_FILE, HISTORY_FILE)]


def main(folder: Path, keep_mib: int) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES})
    nodes = [cluster.add_node(num_cpus=2, object_store_memory=STORE_BYTES) for _ in range(2)]
    os.environ["RAY_ADDRESS"] = cluster.address
    connect(ClusterConfig())
    undisturbed = train(folder, "undisturbed", keep_mib, None)
    lost = folder / "lost"

    def remove() -> None:
        while not lost.exists():
            time.sleep(0.1)
        (node,) = [node for node in nodes if node.node_id == lost.read_text()]
        cluster.remove_node(node, allow_graceful=False)

    threading.Thread(target=remove, daemon=True).start()
    began = time.monotonic()
    disturbed = train(folder, "disturbed", keep_mib, lost)
    alive = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    seconds = time.monotonic() - began
    reserved = {name: float((folder / name).read_text()) for name in ("before", "after")}
    print(json.dumps({"equal": disturbed == undisturbed, "alive": sorted(alive), "seconds": seconds, **reserved}))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
