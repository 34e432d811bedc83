"""A store in memory that counts the bytes that are read from it."""

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

    def cat_file(self, path, start=None, end=None, **kwargs):
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


fsspec.register_implementation("counting", CountingStore, clobber=True)
