"""Where a crashed job keeps its results: a local folder, or a bucket behind a proxy that makes faults."""

import fnmatch
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from s3fs import S3FileSystem


class Place(ABC):
    """The root of a job's results, as the harness sees it.

    Attributes:
        root: as the setting `root` names it.
        environment: variables that the job needs.
    """

    root: str
    environment: Mapping[str, str]

    @abstractmethod
    def files(self, folder: str) -> dict[str, float]:
        """Return the path of each file below a folder, relative to it, with its time."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return the content of a file, given its path below the root."""

    @abstractmethod
    def write(self, path: str, content: bytes) -> None:
        """Write a file, given its path below the root."""

    @abstractmethod
    def remove(self, folder: str) -> None:
        """Remove a folder below the root, if it is there."""

    def begin_with(self, other: "Place", addresses: Iterable[str]) -> None:
        """Copy artifacts from another place, except those whose files name that place."""
        for address in addresses:
            content = {f"{address}/{name}": other.read(f"{address}/{name}") for name in other.files(address)}
            manifest = content.pop(f"{address}/manifest.json")
            if any(other.root.encode() in read for read in content.values()):
                continue
            for path, read in content.items():
                self.write(path, read)
            self.write(f"{address}/manifest.json", manifest.replace(other.root.encode(), self.root.encode()))

    def entries(self, folder: str, pattern: str) -> set[str]:
        """Return the names of files and folders below a folder that match a pattern of as many parts."""
        depth = pattern.count("/") + 1
        found = {"/".join(name.split("/")[:depth]) for name in self.files(folder)}
        return {name for name in found if fnmatch.fnmatch(name, pattern)}

    def newest(self, folder: str) -> float | None:
        """Return the Unix time at which the newest file of a step was stored; None if there is none."""
        files = self.files(folder)
        whole = [when for name, when in files.items() if not name.endswith((".partial", "claim.json"))]
        return max(whole, default=None)


@dataclass(frozen=True)
class Folder(Place):
    """A local folder."""

    root: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def files(self, folder: str) -> dict[str, float]:
        """See `Place`; a file that is removed meanwhile is left out."""
        found = {}
        for path in Path(self.root, folder).rglob("*"):
            try:
                if path.is_file():
                    found[str(path.relative_to(Path(self.root, folder)))] = path.stat().st_mtime
            except OSError:
                continue
        return found

    def read(self, path: str) -> bytes:
        """See `Place`."""
        return Path(self.root, path).read_bytes()

    def write(self, path: str, content: bytes) -> None:
        """See `Place`."""
        file = Path(self.root, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def remove(self, folder: str) -> None:
        """See `Place`."""
        shutil.rmtree(Path(self.root, folder), ignore_errors=True)


@dataclass(frozen=True)
class Bucket(Place):
    """A bucket, seen without the faults that the job meets."""

    root: str
    environment: Mapping[str, str]
    client: S3FileSystem

    def files(self, folder: str) -> dict[str, float]:
        """See `Place`."""
        self.client.invalidate_cache()
        below = f"{self.root.removeprefix('s3://')}/{folder}".rstrip("/")
        try:
            found = self.client.find(below, detail=True)
        except FileNotFoundError:
            return {}
        times = {name: entry.get("LastModified") for name, entry in found.items()}  # a folder has none
        return {name.removeprefix(f"{below}/"): when.timestamp() for name, when in times.items() if when is not None}

    def read(self, path: str) -> bytes:
        """See `Place`."""
        return self.client.cat_file(f"{self.root.removeprefix('s3://')}/{path}")

    def write(self, path: str, content: bytes) -> None:
        """See `Place`."""
        self.client.pipe_file(f"{self.root.removeprefix('s3://')}/{path}", content)

    def remove(self, folder: str) -> None:
        """See `Place`."""
        self.client.invalidate_cache()
        below = f"{self.root.removeprefix('s3://')}/{folder}"
        if self.client.exists(below):
            self.client.rm(below, recursive=True)
