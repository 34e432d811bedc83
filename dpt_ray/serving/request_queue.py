"""A bounded queue of requests, which are answered in batches and in the order in which they came.

One event loop holds the queue. Networks compute in threads, a batch in each, so the loop keeps answering.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from dpt_ray.serving.limits import Limits, RefusedError
from dpt_ray.serving.served_networks import Answer, Served
from dpt_ray.serving.service_requests import Request, goes_with

_LONGEST_RETRY_SECONDS = 60


class Networks(Protocol):
    """What answers requests: `ServedNetworks` in this process, or replicas on Ray.

    Attributes:
        parallel: batches that are computed at a time.
    """

    parallel: int

    def describe(self) -> Served:
        """Return what the networks offer."""

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer requests that can be computed together, in their order."""

    def is_healthy(self) -> bool:
        """Whether requests can be answered."""

    def close(self) -> None:
        """Give back what the networks hold."""


@dataclass(frozen=True)
class _Waiting:
    request: Request
    answer: "asyncio.Future[Answer]"


class RequestQueue:
    """Holds requests until networks have answered them.

    Args:
        networks: answer the requests.
        limits: bounds of requests and batches.
        computed: called with the number of images and the seconds of every batch.
    """

    def __init__(
        self, networks: Networks, limits: Limits, computed: Callable[[int, float], None] = lambda images, seconds: None
    ):
        self._networks, self._limits, self._computed = networks, limits, computed
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Condition()
        self._threads = ThreadPoolExecutor(networks.parallel, thread_name_prefix="networks")
        self._workers: list[asyncio.Task[None]] = []
        self._batch_seconds = 0.0
        self.held = 0
        """Requests that are being received, wait, or are being computed."""
        self.is_open = True
        """Whether new requests are taken."""

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold a request within the context, from before its body is read until it is answered.

        Raises:
            RefusedError: as many as allowed are held already (429), or the service is ending (503).
        """
        if not self.is_open:
            raise RefusedError(503, "the service is ending", {"Retry-After": "10"})
        if self.held >= self._limits.held:
            raise RefusedError(
                429,
                f"{self.held} requests are held already; try again",
                {"Retry-After": str(self.retry_seconds())},
            )
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1

    def retry_seconds(self) -> int:
        """Return the whole seconds in which the requests held now will roughly have been answered."""
        seconds = self._batch_seconds * self.held / self._networks.parallel
        return min(_LONGEST_RETRY_SECONDS, max(1, math.ceil(seconds)))

    async def answer(self, request: Request) -> Answer:
        """Return the answer to a request that is held. A caller that is cancelled gives its place up.

        Raises:
            RefusedError: it took too long (504).
        """
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        async with self._arrived:
            self._waiting.append(waiting)
            self._arrived.notify()
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                return await waiting.answer
        except TimeoutError:
            raise RefusedError(504, f"no answer within {self._limits.answer_seconds:g} s") from None

    def start(self) -> None:
        """Begin to answer requests."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._networks.parallel)]

    async def close(self) -> None:
        """Take no more requests, answer those that are held, and end."""
        self.is_open = False
        while self.held:
            await asyncio.sleep(0.02)
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            async with self._arrived:
                await self._arrived.wait_for(lambda: self._waiting)
                batch = self._take()
            if not batch:
                continue
            began = time.perf_counter()
            try:
                answers = await loop.run_in_executor(
                    self._threads, self._networks.answer, [waiting.request for waiting in batch]
                )
                if len(answers) != len(batch):
                    raise RuntimeError(f"{len(answers)} answers to {len(batch)} requests")
            except Exception as error:  # whatever it is, the next batch must be computed
                _fail(batch, error)
                continue
            seconds = time.perf_counter() - began
            self._batch_seconds = seconds if not self._batch_seconds else 0.8 * self._batch_seconds + 0.2 * seconds
            self._computed(sum(waiting.request.images for waiting in batch), seconds)
            for waiting, answer in zip(batch, answers, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)

    def _take(self) -> list[_Waiting]:
        """Take the next batch: the oldest request and the next ones that go with it, while their images fit.

        Requests whose callers are gone are dropped.
        """
        batch: list[_Waiting] = []
        left: list[_Waiting] = []
        images = 0
        for waiting in self._waiting:
            if waiting.answer.done():
                continue
            fits = not batch or (
                goes_with(batch[0].request, waiting.request) and images + waiting.request.images <= self._limits.batch
            )
            if fits:
                batch.append(waiting)
                images += waiting.request.images
            else:
                left.append(waiting)
        self._waiting = deque(left)
        return batch


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
