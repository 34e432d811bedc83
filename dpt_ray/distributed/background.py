"""Calls in threads that nobody has to wait for."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Event, Thread
from typing import Self, TypeVar

_Result = TypeVar("_Result")


def in_background(call: Callable[[], _Result]) -> Future[_Result]:
    """Return the future result of a call in a thread of its own, which does not keep the process alive."""
    result: Future[_Result] = Future()

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)

    Thread(target=run, daemon=True).start()
    return result


END_SECONDS = 2.0
"""Longest wait for the thread of a `RepeatedCall` after an error."""


class RepeatedCall:
    """Calls a function again and again from a thread while a context lasts, and once more when it ends well.

    Args:
        call: the function.
        seconds: time between two calls.
    """

    def __init__(self, call: Callable[[], object], seconds: float):
        self._call, self._seconds = call, seconds
        self._stop = Event()
        self._thread = Thread(target=self._repeat, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        if exception[0] is None:
            self._thread.join()
            self._call()
        else:
            self._thread.join(END_SECONDS)  # Ray may have failed, and the thread may wait for it

    def _repeat(self) -> None:
        while not self._stop.wait(self._seconds):
            self._call()
