"""Where a crashed job keeps its results: a local folder, or a bucket behind a proxy that makes faults."""

import fnmatch
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
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

    def entries(self, folder: str, pattern: str) -> set[str]:
        """Return the names of files and folders below a folder that match a pattern of as many parts."""
        depth = pattern.count("/") + 1
        found = {"/".join(name.split("/")[:depth]) for name in self.files(folder)}
        return {name for name in found if fnmatch.fnmatch(name, pattern)}

    def work_lost(self, folder: str) -> float:
        """Return the seconds since the newest file of a step was written: what was done since then is done again."""
        files = self.files(folder)
        whole = [when for name, when in files.items() if not name.endswith((".partial", "claim.json"))]
        return max(0.0, time.time() - max(whole)) if whole else 0.0


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
        return {name.removeprefix(f"{below}/"): entry["LastModified"].timestamp() for name, entry in found.items()}

    def read(self, path: str) -> bytes:
        """See `Place`."""
        return self.client.cat_file(f"{self.root.removeprefix('s3://')}/{path}")
