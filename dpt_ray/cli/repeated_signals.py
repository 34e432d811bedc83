"""Handlers of signals that arrive twice for one event."""

import time
from collections.abc import Callable
from types import FrameType

REPEATED_SECONDS = 3.0
"""Time within which a signal that comes again counts once. A terminal sends Ctrl-C to all processes of a command, of
which one may forward it to another."""

Handler = Callable[[int, FrameType | None], object]


def counted_once(handler: Handler) -> Handler:
    """Return a handler of a signal that ignores what comes again within `REPEATED_SECONDS`."""
    newest = -REPEATED_SECONDS

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal newest
        before, newest = newest, time.monotonic()
        if newest - before >= REPEATED_SECONDS:
            handler(number, frame)

    return handle
