"""The nodes of a cluster as a job finds them: which are alive, and what they have."""

import os
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.distributed.address import named_address
from dpt_ray.distributed.connection import connect, is_connected
from dpt_ray.distributed.node_capacity import Node
from dpt_ray.distributed.shared_cluster import runs_here


def cluster_nodes() -> list[Node]:
    """Return the nodes of the cluster that this process is connected to. A node that is draining is not alive."""
    import ray

    draining = _draining()
    listed = [(node["NodeID"], node) for node in ray.nodes()]
    return [_node(name, node["Resources"], alive=node["Alive"] and name not in draining) for name, node in listed]


def nodes_of_job(config: ClusterConfig) -> list[Node]:
    """Return the nodes that a job would run on: of the cluster that RAY_ADDRESS names, or this machine.

    Raises:
        UserError: the named cluster cannot be reached.
    """
    if not is_connected():
        if not named_address():
            return [this_machine(config)]
        connect(config)
    return cluster_nodes()


def this_machine(config: ClusterConfig) -> Node:
    """Return this machine as the only node of a local Ray."""
    import torch

    return Node("this machine", float(config.local_cpus or os.cpu_count() or 1), float(torch.cuda.device_count()))


def answering_nodes() -> list[Node]:
    """Return the nodes of the cluster. A node that is draining or does not answer is not alive.

    Ray itself notices the loss of a node after half a minute of missed heartbeats.
    """
    import ray

    listed, draining = ray.nodes(), _draining()
    usable = [node["Alive"] and node["NodeID"] not in draining for node in listed]
    addresses = [(node["NodeManagerAddress"], node["NodeManagerPort"]) for node in listed]
    places = [address if use else None for address, use in zip(addresses, usable, strict=True)]
    with ThreadPoolExecutor(min(32, len(listed))) as threads:
        alive = threads.map(lambda place: place is not None and _answers(*place), places)
        pairs = list(zip(listed, alive, strict=True))
    return [_node(node["NodeID"], node["Resources"], alive=answers) for node, answers in pairs]


ANSWER_SECONDS = 3.0
"""Longest time to wait for the answer of a node."""


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def _draining() -> set[str]:
    """Return the ids of nodes that are about to be reclaimed, on which Ray starts nothing more."""
    from dpt_ray.distributed import ray_internals

    return set(ray_internals.draining_nodes())


def shared_capacity(config: ClusterConfig) -> tuple[float, float]:
    """Return the CPUs and GPUs of all nodes on which processes run, or this process's share of them (`share_cluster`).

    Nodes that are draining count, since they are still paid for. Without a connection this machine is the only node.
    """
    nodes = [this_machine(config)]
    if is_connected():
        import ray

        nodes = [_node("", node["Resources"], alive=node["Alive"]) for node in ray.nodes() if _hosts_tasks(node)]
    return sum(node.cpus for node in nodes) / runs_here(), sum(node.gpus for node in nodes) / runs_here()


def object_store_bytes() -> float:
    """Return the bytes of the object stores of all nodes on which tasks run, or this process's share of them."""
    import ray

    sizes = [node["Resources"].get("object_store_memory", 0.0) for node in ray.nodes() if _hosts_tasks(node)]
    return float(sum(sizes)) / runs_here()


def _hosts_tasks(node: Mapping[str, Any]) -> bool:
    return _node("", node["Resources"], alive=node["Alive"]).usable


def _node(name: str, resources: Mapping[str, float], *, alive: bool) -> Node:
    return Node(name, resources.get("CPU", 0.0), resources.get("GPU", 0.0), alive)
