"""The only file that uses parts of Ray outside its public interface, with the reason for each.

Ray may change them in any version. `pyproject.toml` bounds its versions, and `cluster.check_ray_internals` imports this
module when a job starts. The import also imports Ray, which reads its environment at that moment.
"""

import importlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partialmethod
from pathlib import Path
from typing import Any

import grpc
import ray
from ray._private import ray_constants, services
from ray._private.authentication.authentication_utils import is_token_auth_enabled
from ray._private.grpc_utils import init_grpc_channel
from ray._private.internal_api import get_memory_info_reply, get_state_from_address
from ray._private.parameter import RayParams
from ray._private.services import canonicalize_bootstrap_address_or_die, find_node_ids, get_node
from ray._raylet import (  # type: ignore[attr-defined]  # Cython: Ray's stubs lack them
    AuthenticationMode,
    AuthenticationTokenLoader,
    get_authentication_mode,
)
from ray.core.generated import gcs_service_pb2 as gcs_service_pb2
from ray.core.generated import gcs_service_pb2_grpc as gcs_service_pb2_grpc

# `DataContext.custom_execution_callback_classes`, a public setting, takes subclasses of it. Ray does not export it.
from ray.data._internal.execution.execution_callback import ExecutionCallback as ExecutionCallback

# `RunConfig.callbacks`, a public setting, takes subclasses of it ("custom workarounds"); `placed_workers.py` says why.
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError as WorkerGroupStartupFailedError
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError as WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.callback import ControllerCallback as ControllerCallback
from ray.train.v2._internal.execution.callback import WorkerCallback as WorkerCallback
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2._internal.execution.controller.state import RunningState as RunningState
from ray.util.placement_group import PlacementGroup, remove_placement_group

from dpt_ray.distributed.process_tree import descendants, has_started

WITHOUT_BACKPRESSURE = {"_generator_backpressure_num_objects": -1}
"""Option of a read task, for which Ray Data has no setting: it never stalls until its blocks are consumed."""


def leave_clusters() -> None:
    """Let Ray listen on the loopback address alone.

    The variable `RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER` does the same, but only if it is set before Ray is imported.
    """
    ray_constants.ENABLE_RAY_CLUSTER = False


@contextmanager
def agents_on_free_ports() -> Iterator[None]:
    """Let the agent of a Ray that `ray.init` starts in this context listen on any free port.

    `ray.init` has no argument for it. Where another Ray of this machine has the usual port, the agent tries again for
    about 4 s and then goes without, and `ray.init` waits meanwhile.
    """
    before = RayParams.__init__
    RayParams.__init__ = partialmethod(before, dashboard_agent_listen_port=0)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        RayParams.__init__ = before  # type: ignore[method-assign]


@contextmanager
def patient_start(seconds: float) -> Iterator[None]:
    """Let `ray.init` wait longer in this context for the raylet that it starts than 30 s, which is fixed in Ray.

    A loaded machine needs longer. If the raylet has ended, nothing is waited for.

    Args:
        seconds: longest time to wait.
    """

    def wait_for_node(gcs_address: str, node_id: str) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            try:
                return get_node(gcs_address, node_id)
            except RuntimeError:  # the control store does not know the node yet
                if time.monotonic() > deadline or not has_started("raylet"):
                    raise
            time.sleep(0.1)

    services.get_node = wait_for_node
    try:
        yield
    finally:
        services.get_node = get_node


@contextmanager
def unprinted_messages() -> Iterator[None]:
    """Let a connection that `ray.init` makes in this context print no messages of Ray's own processes.

    With `log_to_driver=False` a thread of Ray still prints some, such as the number of workers that have started. They
    stand in Ray's log files.
    """
    worker: Any = ray._private.worker
    before = worker.listen_error_messages
    worker.listen_error_messages = lambda worker, threads_stopped: None
    try:
        yield
    finally:
        worker.listen_error_messages = before


def forget_token() -> None:
    """Let Ray read its token again. Ray caches the token, and an earlier Ray of this process may have had another."""
    AuthenticationTokenLoader.instance().reset_cache()


def requires_token() -> bool:
    """Whether the Ray that this process is connected to accepts only requests with its token."""
    return bool(get_authentication_mode() == AuthenticationMode.TOKEN)


def sends_token() -> bool:
    """Whether this process sends a token with its requests to Ray."""
    return bool(is_token_auth_enabled())


def newest_address(address: str) -> str:
    """Return host:port of the newest cluster on this machine, for the address `auto`.

    It is needed before `ray.init`, which waits for minutes for a cluster that does not answer.

    Raises:
        ConnectionError: there is no cluster, or more than one.
        ValueError: the address has another form.
    """
    return canonicalize_bootstrap_address_or_die(address)


def check_alive(place: str, seconds: float) -> Any:
    """Return the answer of Ray's control store: `ray_version`, and `raylet_alive` for each Ray node on this machine.

    A node is alive if it belongs to this control store.

    Args:
        place: host:port of the control store.
        seconds: longest time to wait for the answer.

    Raises:
        grpc.RpcError: there is no answer, or what answers is no control store.
    """
    return _check_alive(place, sorted(find_node_ids()), seconds)


def _check_alive(place: str, nodes: Sequence[str], seconds: float) -> Any:
    channel = init_grpc_channel(place, [("grpc.enable_http_proxy", 0)])
    try:
        stub = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        ids = [bytes.fromhex(node) for node in nodes]
        request: Any = gcs_service_pb2.CheckAliveRequest(node_ids=ids)  # type: ignore[attr-defined]  # made when imported
        return stub.CheckAlive(request, timeout=seconds)
    finally:
        channel.close()


_PARTS = {
    ray_constants.PROCESS_TYPE_RAYLET: "node manager (raylet)",
    ray_constants.PROCESS_TYPE_GCS_SERVER: "control store (gcs_server)",
}
"""Processes of a local Ray without which no job can go on."""


def _own_node() -> Any:
    """Return Ray's object with the processes that this process has started; None if it is not connected."""
    return ray._private.worker._global_node


def dead_part() -> str | None:
    """Return the name of a part of this process's local Ray that has died; None if there is none."""
    node = _own_node()
    started = {} if node is None else dict(node.all_processes)
    for kind, name in _PARTS.items():
        if any(info.process.poll() is not None for info in started.get(kind, ())):
            return name
    return None


def silent_part(seconds: float) -> str | None:
    """Return the name of a part of the cluster that this process has joined that is dead; None if there is none.

    Args:
        seconds: longest time to wait for an answer of the control store.
    """
    node = _own_node()
    if node is None or node.all_processes:  # a local Ray, whose processes `dead_part` sees
        return None
    try:
        reply = _check_alive(node.gcs_address, [node.node_id], seconds)
    except grpc.RpcError:
        return _PARTS[ray_constants.PROCESS_TYPE_GCS_SERVER]
    return None if all(reply.raylet_alive) else _PARTS[ray_constants.PROCESS_TYPE_RAYLET]


def kill_local_processes() -> None:
    """Kill the processes of this process's local Ray, if there is one, and those that they have started.

    Ray's agents would wait for a minute for a control store that is dead.
    """
    node = _own_node()
    started = {} if node is None else dict(node.all_processes)
    processes = [info.process for infos in started.values() for info in infos]
    living = [process for process in processes if process.poll() is None]  # the id of a dead one may be another's now
    below = [child for process in living for child in descendants(process.pid)]
    for process in processes:
        process.kill()
    for child in below:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    for process in processes:
        process.wait()


def remove_groups_of(actor_id: str) -> None:
    """Remove the placement groups of an actor that is dead.

    Ray Train leaves that to an actor that asks the dashboard, which a local Ray lacks. The public table of placement
    groups does not name their creators.

    Args:
        actor_id: id of the actor, hexadecimal.
    """
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]  # made when imported

    accessor = ray._private.state.state._connect_and_get_accessor()
    for content in accessor.get_placement_group_table():
        group: Any = PlacementGroupTableData.FromString(content)
        if group.creator_actor_id.hex() == actor_id and group.state != PlacementGroupTableData.REMOVED:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))


def preempted_nodes() -> list[str]:
    """Return the ids of nodes of this training's workers that are about to be reclaimed, as Ray Train told this worker.

    The public function `ray.train.get_preemption_info` is a barrier of all workers, too slow for every step.
    """
    info = get_train_context().preemption_context.preemption_info
    return [] if info is None else list(info.preempted_node_ids)


def draining_nodes() -> dict[str, float | None]:
    """Return the nodes that are about to be reclaimed: id -> Unix time of it; None if that is unknown."""
    found: dict[str, int] = ray._private.state.state.get_draining_nodes()
    return {node: milliseconds / 1000 if milliseconds else None for node, milliseconds in found.items()}


def nodes_of_machine() -> list[str]:
    """Return the ids of the Ray nodes that run on this machine."""
    return sorted(find_node_ids())


def drain_node(node: str, message: str, seconds: float) -> bool:
    """Announce that a node is reclaimed, to the cluster that RAY_ADDRESS names or that runs on this machine.

    Ray starts nothing more there, and its raylet ends once nothing runs on it. Ray's own command for it is hidden.

    Args:
        node: id of the node, hexadecimal.
        message: why.
        seconds: time until then.

    Returns:
        Whether Ray accepts it.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated import autoscaler_pb2

    reason = autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION  # type: ignore[attr-defined]  # made when imported
    client = GcsClient(address=canonicalize_bootstrap_address_or_die(os.environ.get("RAY_ADDRESS", "auto")))
    accepted, _ = client.drain_node(node, reason, message, int((time.time() + seconds) * 1000))
    return bool(accepted)


def spilled_bytes() -> int:
    """Return the bytes of objects that the cluster has written to disks since it started."""
    state = get_state_from_address(ray.get_runtime_context().gcs_address)
    return int(get_memory_info_reply(state).store_stats.spilled_bytes_total)


def job_config_variable() -> str:
    """Return the name of the variable that Ray sets for the script of a submitted job; for a test of our own name."""
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

    return RAY_JOB_CONFIG_JSON_ENV_VAR


def package_working_dir(folder: str, package: Path, *, include_gitignore: bool) -> None:
    """Write the zip file that `ray job submit --working-dir` uploads; for a test of what is in it."""
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import create_package

    create_package(folder, package, include_gitignore, excludes=get_runtime_env_default_excludes())


def protocol_services() -> Iterator[Any]:
    """Yield the descriptors of all gRPC services of Ray's protocol, for tests of its authentication."""
    package = importlib.import_module("ray.core.generated")
    for folder in package.__path__:
        for file in sorted(Path(folder).glob("*_pb2.py")):
            module = importlib.import_module(f"{package.__name__}.{file.stem}")
            yield from module.DESCRIPTOR.services_by_name.values()
