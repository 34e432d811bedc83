"""A store in memory that counts the requests to it, and the bytes that are read from it, and may be slow."""

import time
from collections import Counter
from functools import wraps
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class CountingStore(MemoryFileSystem):
    """Files of URLs that begin with `counting://`."""

    protocol = "counting"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    fetched = 0
    requests = 0
    latency_seconds: ClassVar[float] = 0.0
    calls: ClassVar[Counter[str]] = Counter()

    def cat_file(self, path, start=None, end=None, **kwargs):
        time.sleep(CountingStore.latency_seconds)
        content = super().cat_file(path, start, end, **kwargs)
        CountingStore.fetched += len(content)
        CountingStore.requests += 1
        return content

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("counting://", "memory://"))

    @classmethod
    def count_from_here(cls) -> None:
        """Forget what was read so far."""
        cls.fetched = cls.requests = 0
        cls.calls.clear()


def _counted(name: str) -> Any:
    method = getattr(CountingStore, name)

    @wraps(method)
    def call(self: CountingStore, *arguments: Any, **options: Any) -> Any:
        CountingStore.calls[name] += 1
        return method(self, *arguments, **options)

    return call


for _name in ("cat_file", "pipe_file", "exists", "info", "ls", "rm_file"):
    setattr(CountingStore, _name, _counted(_name))

fsspec.register_implementation("counting", CountingStore, clobber=True)
