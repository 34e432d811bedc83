"""Prints, as JSON, what jobs get of a cluster with a head of 0 CPUs and nodes of 3 and 1 CPUs."""

import json
import os
import time
from dataclasses import asdict

import ray
from ray.cluster_utils import Cluster
from ray_nodes import STORE_BYTES

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.distributed.cluster_nodes import cluster_nodes, object_store_bytes
from dpt_ray.distributed.connection import connect
from dpt_ray.distributed.resources import inference_resources, stream_readers, training_resources
from dpt_ray.errors import UserError


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 3 * STORE_BYTES})
    for cpus in (3, 1):
        cluster.add_node(num_cpus=cpus, object_store_memory=STORE_BYTES)
    os.environ["RAY_ADDRESS"] = cluster.address
    connect(ClusterConfig())
    training = training_resources(ClusterConfig(workers=1))
    found = {
        "nodes": sorted(node.cpus for node in cluster_nodes()),
        "training": asdict(training),
        "readers": stream_readers(1, training),
        "inference": asdict(inference_resources(ClusterConfig())),
        "object_store": object_store_bytes() / STORE_BYTES,
    }
    began = time.monotonic()
    try:
        training_resources(ClusterConfig(workers=2, cpus_per_worker=1.75))
    except UserError as error:
        found |= {"refusal": str(error), "seconds": time.monotonic() - began}
    print(json.dumps(found))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
