"""A gallery that really listens, for tests: its event loop runs in a thread."""

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from dpt_ray.serving.http_service import HttpService
from dpt_ray.serving.limits import Limits
from dpt_ray.serving.serve_models import listening
from dpt_ray.serving.served_networks import DrawnImages, FoundClasses, Served, ServedClassifier, ServedGenerator
from dpt_ray.serving.service_requests import DrawingRequest


@dataclass
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Running:
    url: str
    service: HttpService
    loop: asyncio.AbstractEventLoop
    ending: asyncio.Event
    thread: threading.Thread

    def end(self) -> None:
        """Begin the end, as a signal does."""
        self.loop.call_soon_threadsafe(self.ending.set)

    def ask(self, method: str, path: str, body=None, headers=None, timeout: float = 60) -> Answered:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answered(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def draw(self, headers=None, **wanted) -> Answered:
        kind = {"Content-Type": "application/json", **(headers or {})}
        return self.ask("POST", "/api/images", json.dumps(wanted).encode(), kind)

    def classify(self, data: bytes, kind: str = "image/png") -> Answered:
        return self.ask("POST", "/api/classify", data, {"Content-Type": kind})


@contextmanager
def running_service(networks, limits: Limits | None = None, token: str | None = None) -> Iterator[Running]:
    """Run a service for the context, on a free port of the loopback address."""
    service = HttpService(networks, limits or Limits(), "toy", token)
    started = threading.Event()
    found: dict = {}

    async def run() -> None:
        found["ending"], found["loop"] = asyncio.Event(), asyncio.get_running_loop()
        async with listening(service, "127.0.0.1", 0) as url:
            found["url"] = url
            started.set()
            await found["ending"].wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert started.wait(30)
    running = Running(found["url"], service, found["loop"], found["ending"], thread)
    try:
        yield running
    finally:
        if thread.is_alive():
            running.end()
        thread.join(60)
        assert not thread.is_alive()


@dataclass
class GatedNetworks:
    """Networks that answer a batch once they are allowed to."""

    parallel: int = 1
    healthy: bool = True
    gate: threading.Event = field(default_factory=threading.Event)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    batches: list = field(default_factory=list)

    def describe(self) -> Served:
        generator = ServedGenerator(("ant", "bee"), (1, 8, 8), 0.5, 0, 10, "heun", True)
        return Served(generator, ServedClassifier(("ant", "bee"), (1, 8, 8)))

    def answer(self, requests):
        self.batches.append(list(requests))
        self.begun.release()
        assert self.gate.wait(60)
        return [
            DrawnImages(tuple(f"{label} {number}".encode() for label, number in request.places))
            if isinstance(request, DrawingRequest)
            else FoundClasses(((1, 0.75), (0, 0.25)))
            for request in requests
        ]

    def is_healthy(self) -> bool:
        return self.healthy

    def close(self) -> None:
        pass
