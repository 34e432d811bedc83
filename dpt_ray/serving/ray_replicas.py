"""Networks of the service as replicas on Ray Serve: on the cluster of RAY_ADDRESS, or on a local Ray.

Serve places the replicas, watches them and starts one that died again. Its HTTP proxies stay off: the service has its
own queue and HTTP server, so what reaches a replica has been checked and batched.
"""

import logging
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.data.storage import stores
from dpt_ray.distributed.connection import connect
from dpt_ray.distributed.failures import user_error
from dpt_ray.distributed.job_log import tell
from dpt_ray.errors import UserError
from dpt_ray.export.folder import belongs_to_export
from dpt_ray.serving.replica_owner import end_with, start_owner
from dpt_ray.serving.served_networks import Answer, Served, ServedNetworks
from dpt_ray.serving.service_requests import Request
from dpt_ray.text import one_line

_INSTALL = "pip install 'dpt_ray[serve]'"
_TRIES = 4
"""Most attempts to have a batch answered. Each goes to another replica, or to one that was started again."""
_SECONDS = 600.0
"""Longest time for one attempt."""

Files = Mapping[str, Any]
"""The files of an export: name -> reference to the content in Ray's object store."""


class Replica:
    """A copy of the networks in a process of its own.

    Args:
        generator: files of the generator's export; None if there is none.
        classifier: files of the classifier's export; None if there is none.
        device: as for `ServedNetworks`.
        owner: of `start_owner`; the application is removed when it is gone.
        application: name of the application to which the replica belongs.
    """

    def __init__(
        self, generator: Files | None, classifier: Files | None, device: str | None, owner: Any, application: str
    ):
        end_with(owner, application)
        self._folder = tempfile.TemporaryDirectory(prefix="dpt-serve-")  # snapshots are read when they are needed
        place = Path(self._folder.name)
        self._networks = ServedNetworks(
            _written(generator, place / "generator"), _written(classifier, place / "classifier"), device
        )

    def describe(self) -> Served:
        """Return what the networks offer."""
        return self._networks.describe()

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer requests that can be computed together, in their order."""
        return self._networks.answer(requests)


class RayReplicas:
    """Answers requests by replicas on Ray Serve.

    Args:
        generator: URL of an exported generator; None for a service without.
        classifier: URL of an exported classifier; None for a service without.
        device: device of the networks; if None, a GPU of its own for each replica if the cluster has some.
        replicas: their number, which is also the number of batches that are computed at a time.

    Raises:
        UserError: Ray Serve's packages are missing, the cluster cannot be reached or is too small, or a replica does
            not start.
    """

    def __init__(self, generator: str | None, classifier: str | None, device: str | None, replicas: int):
        serve = _import_serve()
        connect(ClusterConfig())
        self.parallel = replicas
        self._serve, self._name = serve, f"dpt-gallery-{uuid.uuid4().hex[:12]}"
        needs = _needs(device)
        _check_room(needs, replicas)
        # The references are kept: a replica that is started again reads the files once more.
        self._files = [None if url is None else _stored(url) for url in (generator, classifier)]
        self._owner = start_owner()  # Ray ends an actor whose handle nobody holds
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
        deployment = serve.deployment(Replica).options(
            num_replicas=replicas,
            max_ongoing_requests=1,  # a replica computes one batch; the queue is the service's own
            ray_actor_options=needs,
            health_check_period_s=5,
            graceful_shutdown_timeout_s=5,
        )
        try:
            application = deployment.bind(*self._files, device, self._owner, self._name)
            self._handle = serve.run(application, name=self._name, route_prefix=None)
            self._offer: Served = self._handle.describe.remote().result(timeout_s=_SECONDS)
        except BaseException as error:  # also Ctrl-C: on a shared cluster Serve would keep what it was told to start
            self.close()
            if not isinstance(error, Exception):
                raise
            cause = user_error(error)
            raise cause or UserError(f"the replicas do not start ({one_line(error)})", where="--replicas") from None

    def describe(self) -> Served:
        """Return what the networks offer."""
        return self._offer

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer requests by one of the replicas. If it dies, another one answers: equal requests have equal answers.

        Raises:
            UserError: no replica answers.
        """
        from ray.exceptions import RayError, RayTaskError
        from ray.serve.exceptions import RayServeException

        for left in reversed(range(_TRIES)):
            try:
                response = self._handle.answer.remote(list(requests))
                return cast("list[Answer]", response.result(timeout_s=_SECONDS))
            except RayTaskError:  # an error in the networks' own code, which would occur again
                raise
            except (RayError, RayServeException, TimeoutError) as error:
                tell(f"a replica did not answer ({one_line(error)})", level="warning", event="replica_lost")
                if not left:
                    raise UserError("the replicas do not answer", where="Ray Serve") from error
        raise AssertionError("unreachable")

    def is_healthy(self) -> bool:
        """Whether at least one replica runs."""
        application = self._serve.status().applications.get(self._name)
        deployments = application.deployments.values() if application is not None else ()
        return any(deployment.replica_states.get("RUNNING", 0) for deployment in deployments)

    def close(self) -> None:
        """Remove the replicas; other applications on the cluster's Serve stay."""
        try:
            self._serve.delete(self._name)
        except Exception as error:  # Ray may have died already, and the service ends either way
            tell(f"the replicas could not be removed ({one_line(error)})", level="warning")


def _import_serve() -> Any:
    try:
        from ray import serve
    except ImportError as error:
        raise UserError(f"a package of Ray Serve is missing ({one_line(error)})", fix=_INSTALL) from None
    return serve


def _needs(device: str | None) -> dict[str, float]:
    """Return the CPUs and GPUs of a replica."""
    import ray

    has_gpus = ray.cluster_resources().get("GPU", 0) > 0
    return {"num_cpus": 1, "num_gpus": 1 if has_gpus and device != "cpu" else 0}


def _check_room(needs: Mapping[str, float], replicas: int) -> None:
    """Refuse more replicas than the cluster can hold, for which Serve would wait without an end."""
    import ray

    there = ray.cluster_resources()
    for name, each in (("CPU", needs["num_cpus"]), ("GPU", needs["num_gpus"])):
        if each and replicas * each > there.get(name, 0):
            raise UserError(
                f"{replicas} replicas need as many {name}s, and Ray has {there.get(name, 0):g}",
                where="--replicas",
                fix="give fewer",
            )


def _stored(url: str) -> Files:
    """Put the files of an export into Ray's object store, from which replicas on any node read them."""
    import ray

    names = [file["name"] for file in stores.list_tree(url) if belongs_to_export(file["name"])]
    return {name: ray.put(stores.read_bytes(stores.join(url, name))) for name in names}


def _written(files: Files | None, folder: Path) -> str | None:
    """Write the files of an export into a local folder; return its path."""
    import ray

    if files is None:
        return None
    for name, content in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(cast("bytes", ray.get(content)))
    return str(folder)
