"""An in-process replacement for memcached, in which Swift caches tokens and data of accounts and buckets.

All of Swift's servers run in one process here, so a dictionary suffices.
"""

import time
from collections.abc import Callable
from typing import Any


class MemoryCache:
    """The part of the interface of Swift's memcache client that its servers use."""

    def __init__(self):
        self._entries: dict[str, tuple[Any, float]] = {}

    def get(self, key: str, **_: Any) -> Any:
        """Return a value; None if it is absent or expired."""
        value, end = self._entries.get(key, (None, 0.0))
        if end and end < time.time():
            del self._entries[key]
            return None
        return value

    def set(self, key: str, value: Any, time: float = 0, **_: Any) -> None:
        """Store a value for `time` seconds; 0 means without expiry."""
        self._entries[key] = (value, _end(time))

    def delete(self, key: str, **_: Any) -> None:
        """Remove a value."""
        self._entries.pop(key, None)

    def incr(self, key: str, delta: int = 1, time: float = 0, **_: Any) -> int:
        """Add `delta` to a counter, which starts at 0 and never falls below 0; return the new value."""
        count = max(0, int(self.get(key) or 0) + delta)
        self.set(key, count, time=time)
        return count

    def decr(self, key: str, delta: int = 1, time: float = 0, **_: Any) -> int:
        """Subtract `delta` from a counter; return the new value."""
        return self.incr(key, -delta, time)

    def set_multi(self, mapping: dict[str, Any], server_key: str | None = None, time: float = 0, **_: Any) -> None:
        """Store several values."""
        for key, value in mapping.items():
            self.set(key, value, time=time)

    def get_multi(self, keys: list[str], server_key: str | None = None, **_: Any) -> list[Any]:
        """Return several values."""
        return [self.get(key) for key in keys]


def _end(seconds: float) -> float:
    return time.time() + seconds if seconds else 0.0


def filter_factory(_: dict[str, str], **__: str) -> Callable:
    """Return a WSGI filter that passes the cache to the filters and servers after it in Swift's pipeline."""
    cache = MemoryCache()

    def add_cache(application: Callable) -> Callable:
        def call(environment: dict[str, Any], start_response: Callable) -> Any:
            environment["swift.cache"] = cache
            return application(environment, start_response)

        return call

    return add_cache
