"""A stand-in for memcached, which Swift asks for tokens and for what it knows of accounts and buckets.

All of Swift's servers run in one process here, so a dictionary serves them as well.
"""

import time
from collections.abc import Callable
from typing import Any


class MemoryCache:
    """Swift's memcache client, as far as its servers call it."""

    def __init__(self):
        self._entries: dict[str, tuple[Any, float]] = {}

    def get(self, key: str, **_: Any) -> Any:
        """Return a value, None if it is absent or past its time."""
        value, end = self._entries.get(key, (None, 0.0))
        if end and end < time.time():
            del self._entries[key]
            return None
        return value

    def set(self, key: str, value: Any, time: float = 0, **_: Any) -> None:
        """Keep a value for `time` seconds, 0 for ever."""
        self._entries[key] = (value, _end(time))

    def delete(self, key: str, **_: Any) -> None:
        """Forget a value."""
        self._entries.pop(key, None)

    def incr(self, key: str, delta: int = 1, time: float = 0, **_: Any) -> int:
        """Add to a count, which starts at 0 and never goes below."""
        count = max(0, int(self.get(key) or 0) + delta)
        self.set(key, count, time=time)
        return count

    def decr(self, key: str, delta: int = 1, time: float = 0, **_: Any) -> int:
        """Take from a count."""
        return self.incr(key, -delta, time)

    def set_multi(self, mapping: dict[str, Any], server_key: str | None = None, time: float = 0, **_: Any) -> None:
        """Keep several values."""
        for key, value in mapping.items():
            self.set(key, value, time=time)

    def get_multi(self, keys: list[str], server_key: str | None = None, **_: Any) -> list[Any]:
        """Return several values."""
        return [self.get(key) for key in keys]


def _end(seconds: float) -> float:
    return time.time() + seconds if seconds else 0.0


def filter_factory(_: dict[str, str], **__: str) -> Callable:
    """Return the filter that hands the cache to all behind it in Swift's pipeline."""
    cache = MemoryCache()

    def add_cache(application: Callable) -> Callable:
        def call(environment: dict[str, Any], start_response: Callable) -> Any:
            environment["swift.cache"] = cache
            return application(environment, start_response)

        return call

    return add_cache
