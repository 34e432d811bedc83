"""A step waits for the nodes of a cluster that grows."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, threading, time
import ray
from ray.cluster_utils import Cluster
from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.distributed.connection import connect
from dpt_ray.distributed.resources import training_resources
from dpt_ray.errors import UserError

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0})
os.environ["RAY_ADDRESS"] = cluster.address
config = ClusterConfig(workers=2, gpus_per_worker=1, wait_seconds=120)
connect(config)

def refused(config):
    try:
        training_resources(config)
    except UserError as error:
        return str(error)

print("at once:", refused(config.model_copy(update={"wait_seconds": 0})))
began = time.monotonic()
print("in vain:", refused(config.model_copy(update={"wait_seconds": 3})), time.monotonic() - began >= 3)

waiting = threading.Thread(target=lambda: print("grown:", training_resources(config)))
waiting.start()
cluster.add_node(num_cpus=4, num_gpus=2)
waiting.join()
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.slow
def test_training_waits_for_its_gpus():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    lines = dict(line.split(": ", 1) for line in result.stdout.splitlines() if ": " in line)
    assert "2 GPUs are needed but the cluster has 0" in lines["at once"]
    assert "2 GPUs are needed but the cluster has 0" in lines["in vain"]
    assert lines["in vain"].endswith("True")
    assert lines["grown"] == "Resources(processes=2, cpus=1.0, gpus=1.0)"
    told = "waiting for nodes, 0 of at most 120 s: 2 GPUs are needed but the cluster has 0 (1 node of 1 CPUs and 0 GPUs"
    assert told in result.stderr
