"""Outages of a store: observers learn once that requests fail, and once that all of them succeed again."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Outage:
    """The begin or the end of an outage.

    Attributes:
        url: of the request that failed first.
        error: its failure.
        seconds: duration; None at the begin.
    """

    url: str
    error: str
    seconds: float | None = None


Observer = Callable[[Outage], object]


class Outages:
    """The requests of this process that fail at the moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failing: dict[int, str] = {}
        self._first: tuple[Outage, float] | None = None
        self._observers: list[Observer] = []

    def failed(self, request: int, url: str, error: str) -> None:
        """Note that a request has failed and is sent again.

        Args:
            request: number of the request, which stays the same for all its attempts.
            url: of the request.
            error: what happened.
        """
        with self._lock:
            begins = not self._failing
            self._failing[request] = url
            if begins:
                self._first = Outage(url, error), time.monotonic()
        if begins:
            self._tell(Outage(url, error))

    def ended(self, request: int, *, well: bool) -> None:
        """Note that a request has succeeded, or that it is given up."""
        with self._lock:
            if self._failing.pop(request, None) is None or self._failing or self._first is None:
                return
            (first, began), self._first = self._first, None
        if well:
            self._tell(Outage(first.url, first.error, time.monotonic() - began))

    @contextmanager
    def observed(self, observer: Observer) -> Iterator[None]:
        """Let an observer learn of outages within the context."""
        self._observers.append(observer)
        try:
            yield
        finally:
            self._observers.remove(observer)

    def _tell(self, outage: Outage) -> None:
        for observer in list(self._observers):
            observer(outage)


outages = Outages()
"""Those of this process."""
