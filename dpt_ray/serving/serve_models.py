"""`dpt serve`: finds the networks, and runs the service until it is told to end."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager

from aiohttp import web

from dpt_ray.data.storage import stores
from dpt_ray.distributed.job_log import tell
from dpt_ray.distributed.private_folder import private_folder
from dpt_ray.errors import UserError
from dpt_ray.export.folder import EXPORT_KINDS, read_export
from dpt_ray.pipeline.artifacts.run import RUN_FILE
from dpt_ray.pipeline.best_stage import best_stage
from dpt_ray.pipeline.export_run import export_classifier, export_generator
from dpt_ray.serving.access import check_host, read_token
from dpt_ray.serving.http_service import HttpService
from dpt_ray.serving.limits import Limits
from dpt_ray.serving.request_queue import Networks
from dpt_ray.serving.served_networks import ServedNetworks

GRACE_SECONDS = 60.0
"""Longest time in which connections are answered after the service is told to end."""


def serve_models(
    models: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: str | None = None,
    limits: Limits | None = None,
    replicas: int = 0,
    device: str | None = None,
) -> str:
    """Serve trained networks until SIGINT or SIGTERM; return a summary in one line.

    Args:
        models: URL of a run, whose generator and classifier are served; or of one or two exports, a generator and a
            classifier.
        host: address on which the service listens.
        port: its port; 0 is a free one.
        token_file: path of a file with the token; None for the variable DPT_SERVE_TOKEN.
        limits: bounds of requests.
        replicas: number of copies of the networks on Ray Serve; 0 computes in this process.
        device: device of the networks; if None, a GPU if there is one.

    Raises:
        UserError: there is no such network, a token is missing, or the address cannot be used.
    """
    limits = limits or Limits()
    token = read_token(token_file)
    check_host(host, token)
    with ExitStack() as stack:
        folder = stack.enter_context(private_folder())
        generator, classifier = find_exports(models, str(folder))
        networks: Networks
        if replicas:
            from dpt_ray.serving.ray_replicas import RayReplicas

            networks = RayReplicas(generator, classifier, device, replicas)
        else:
            networks = ServedNetworks(generator, classifier, device)
        stack.callback(networks.close)
        title = " and ".join(stores.without_credentials(model).rstrip("/").rpartition("/")[2] for model in models)
        service = HttpService(networks, limits, title, token)
        asyncio.run(run_service(service, host, port, _tell_address(token)))
    answers = service.metrics.answered
    return f"ended after {answers:,} answer{'s' * (answers != 1)}"


def find_exports(models: Sequence[str], folder: str) -> tuple[str | None, str | None]:
    """Return the URLs of an exported generator and classifier; None for one that is not given.

    Args:
        models: as in `serve_models`.
        folder: local folder for the exports of a run.

    Raises:
        UserError: there are no such networks, or two of one kind.
    """
    urls = [stores.absolute_url(model).rstrip("/") for model in models]
    if len(urls) == 1 and stores.exists(stores.join(urls[0], RUN_FILE)):
        stage, reason = best_stage(urls[0])
        if reason:
            tell(f"classes are found{reason}")
        generator = export_generator(urls[0], stores.join(folder, "generator"))
        return generator, export_classifier(urls[0], stores.join(folder, "classifier"), stage=stage)
    found: dict[str, str] = {}
    for url in urls:
        kind = "generator" if read_export(url, EXPORT_KINDS)["kind"] == "generator" else "classifier"
        if kind in found:
            raise UserError(f"is a second {kind}", where=url, fix="give one generator, one classifier, or both")
        found[kind] = url
    return found.get("generator"), found.get("classifier")


async def run_service(service: HttpService, host: str, port: int, started: Callable[[str], None]) -> None:
    """Answer requests until SIGINT or SIGTERM. Requests that are held then are still answered.

    Args:
        service: answers the requests.
        host: address to listen on.
        port: its port; 0 is a free one.
        started: called with the service's URL once it listens.

    Raises:
        UserError: the address cannot be used.
    """
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with listening(service, host, port) as url:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ending.set)
        try:
            started(url)
            await ending.wait()
        finally:  # a second signal ends the process without waiting for answers
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


@asynccontextmanager
async def listening(service: HttpService, host: str, port: int) -> AsyncIterator[str]:
    """Answer requests within the context; yields the service's URL. The end waits for the answers to held requests.

    Raises:
        UserError: the address cannot be used.
    """
    # A request whose client is gone gives its place in the queue up.
    runner = web.AppRunner(
        service.application(), access_log=None, handler_cancellation=True, shutdown_timeout=GRACE_SECONDS
    )
    try:
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            fix = "give another --port"
            raise UserError(f"cannot be listened on ({reason})", where=f"{host}:{port}", fix=fix) from None
        name = f"[{host}]" if ":" in host else host
        yield f"http://{name}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def _tell_address(token: str | None) -> Callable[[str], None]:
    def told(url: str) -> None:
        text = f"gallery: {url}" + (" (asks for the token)" if token else "")
        tell(f"{text}; Ctrl-C ends it", event="serving", url=url)

    return told
