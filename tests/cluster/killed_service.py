"""Kills `dpt serve --replicas 2` on a cluster on which another application runs; prints what is left, as JSON.

Argument: a folder.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ray
from exported_runs import write_run
from ray import serve
from ray.cluster_utils import Cluster
from ray_nodes import STORE_BYTES
from ray_processes import command

START_SECONDS, END_SECONDS = 180, 60


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Other:
    def answer(self) -> int:
        return 7


def ours() -> list[str]:
    return [name for name in serve.status().applications if name.startswith("dpt-gallery-")]


def replicas(application: str) -> int:
    """The living processes of an application's replicas; Ray names a process after its actor."""
    found = [command(int(name)) for name in os.listdir("/proc") if name.isdigit()]
    return sum(f"ServeReplica:{application}" in line for line in found)


def wait_until(holds, seconds: float) -> float:
    """Wait until a condition holds; return how long it took, or -1 if it does not come to hold."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > seconds:
            return -1
        time.sleep(0.2)
    return time.monotonic() - began


def main(folder: Path) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "object_store_memory": STORE_BYTES})
    ray.init(cluster.address, log_to_driver=False)
    serve.start(proxy_location="Disabled")
    other = serve.run(Other.bind(), name="other", route_prefix=None)
    run = write_run(folder / "results")[0]
    log = folder / "serve.log"
    command = [sys.executable, "-m", "dpt_ray", "serve", run, "--replicas", "2", "--port", "0", "--device", "cpu"]
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        listens = wait_until(lambda: "gallery: " in log.read_text() or process.poll() is not None, START_SECONDS)
        if listens < 0 or process.poll() is not None:
            raise SystemExit(log.read_text())
        (name,) = ours()
        before = replicas(name)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    seconds = wait_until(lambda: not ours() and not replicas(name), END_SECONDS)
    answer = other.answer.remote().result(timeout_s=30)
    print(json.dumps({"before": before, "after": replicas(name), "seconds": seconds, "other": answer}))
    serve.shutdown()
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
