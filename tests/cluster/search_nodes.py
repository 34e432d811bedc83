"""Runs a search twice on a head of 0 CPUs and two nodes of 2; the second time, the node of a training is removed.

Argument: a folder. Prints, as JSON, what became of it.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml
from cluster_trainings import cluster_of, remove_node
from ray.cluster_utils import Cluster
from ray_processes import processes_of
from tiny_runs import CONFIG, REPOSITORY

SECONDS = 600
SETTINGS = {
    "stage1.model.width": 8,
    "stage1.images": 32000,
    "stage2.model.dim": 32,
    "stage2.images": 1600,
    "stage3.images": 1600,
    "sampling.per_class": 4,
    "sampling.steps": 4,
    "cluster.workers": 1,
    "cluster.cpus_per_worker": 0.5,
    "cluster.checkpoint_seconds": 0.3,
}


def write_tune_file(folder: Path) -> None:
    tune = {
        "name": "small",
        "base": CONFIG,
        "settings": SETTINGS,
        "space": {"stage1.ema_decay": {"grid": [0.9, 0.99]}},
        "validation": {"images": "training", "per_class": 8},
    }
    (folder / "tune.yaml").write_text(yaml.safe_dump(tune))


def start(folder: Path, root: str) -> subprocess.Popen:
    command = [sys.executable, str(REPOSITORY / "jobs" / "tune.py"), "--config", "tune.yaml", "--set", f"root={root}"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(search: subprocess.Popen, folder: Path, root: str) -> list:
    """Wait for the end of a search; return the point, state and metrics of each trial."""
    output = search.communicate(timeout=SECONDS)[0]
    print(output)
    assert search.returncode == 0, output
    trials = json.loads((folder / root / "searches" / "small" / "results.json").read_text())["trials"]
    return [[trial[name] for name in ("point", "state", "metrics")] for trial in trials]


def node_that_trains(cluster: Cluster) -> str | None:
    """Return the id of a node on which a training worker runs."""
    for node in cluster.worker_nodes:
        (raylet,) = node.all_processes["raylet"]
        if processes_of(raylet.process.pid, "training worker"):
            return node.node_id
    return None


def remove_training_node(cluster: Cluster, folder: Path, search: subprocess.Popen) -> None:
    """Remove the node of a training that has stored a checkpoint."""
    deadline = time.monotonic() + SECONDS
    while not list(folder.glob("classifier/*/checkpoints/images_*")) or node_that_trains(cluster) is None:
        assert search.poll() is None, search.stdout.read()
        assert time.monotonic() < deadline, "no training stored a checkpoint"
        time.sleep(0.05)
    remove_node(cluster, node_that_trains(cluster))


def main(folder: Path) -> None:
    write_tune_file(folder)
    with cluster_of(2, 2) as cluster:
        os.environ["RAY_ADDRESS"] = cluster.address
        undisturbed = finished(start(folder, "undisturbed"), folder, "undisturbed")
        search = start(folder, "disturbed")
        remove_training_node(cluster, folder / "disturbed", search)
        disturbed = finished(search, folder, "disturbed")
        print(json.dumps({"equal": disturbed == undisturbed, "states": [state for _, state, _ in disturbed]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
