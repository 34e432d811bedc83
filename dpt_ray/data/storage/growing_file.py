"""A file that grows while others read it, at any fsspec URL."""

import threading
from pathlib import PurePosixPath

from fsspec.implementations.local import LocalFileSystem

from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

PART_BYTES = 4 * 2**20


class GrowingFile:
    """Collects records; `flush` makes them readable.

    A local file is appended to. An object of a store cannot be, so it is written again, whole, up to `PART_BYTES`;
    what follows goes to further objects: `log.txt`, `log.2.txt`, `log.3.txt`. A record is never split.

    Args:
        url: where it is.
        part_bytes: largest object in a store, unless one record is larger.
    """

    def __init__(self, url: str, part_bytes: int = PART_BYTES):
        self._url, self._part_bytes = url, part_bytes
        self._is_local = isinstance(stores.filesystem(url)[0], LocalFileSystem)
        self._kept, self._new = b"", list[bytes]()
        self._part = 1
        self._lock, self._flushing = threading.Lock(), threading.Lock()

    def write(self, record: bytes) -> None:
        """Collect a record. Threads may call it while another one flushes."""
        with self._lock:
            self._new.append(record)

    def flush(self) -> None:
        """Write what was collected. What could not be written is kept for the next flush.

        Raises:
            UserError: the file cannot be written.
        """
        with self._flushing:
            with self._lock:
                taken, self._new = self._new, []
            if not taken:
                return
            try:
                if self._is_local:
                    stores.append_local(self._url, b"".join(taken))
                    taken = []
                while taken:
                    taken = self._write_part(taken)
            except UserError:
                with self._lock:
                    self._new = taken + self._new
                raise

    def _write_part(self, records: list[bytes]) -> list[bytes]:
        """Write as many records as fit the present object, at least one to a new one; return the others."""
        size, count = len(self._kept), 0
        while count < len(records) and (size == 0 or size + len(records[count]) <= self._part_bytes):
            size += len(records[count])
            count += 1
        if count:
            content = self._kept + b"".join(records[:count])
            stores.write_bytes(self._part_url(), content)
            self._kept = content
        if count < len(records):
            self._kept, self._part = b"", self._part + 1
        return records[count:]

    def _part_url(self) -> str:
        if self._part == 1:
            return self._url
        folder, _, name = self._url.rpartition("/")
        path = PurePosixPath(name)
        return stores.join(folder, f"{path.stem}.{self._part}{path.suffix}")
