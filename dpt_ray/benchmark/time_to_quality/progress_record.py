"""What a chunk of the run leaves for the next one: states, images, and a record of times and scores."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dpt_ray.data.storage import stores
from dpt_ray.data.storage.json_records import Record
from dpt_ray.errors import UserError

RECORD_FILE = "record.json"


@dataclass
class Row(Record):
    """A score at a time.

    Attributes:
        seconds: time of the stage until then, over all its chunks and with compiling, s.
        images: images that were trained on.
        score: accuracy in [0, 1], or Fréchet distance.
    """

    seconds: float
    images: int
    score: float


@dataclass
class Stage(Record):
    """How far a stage is.

    Attributes:
        seconds: its time so far, over all its chunks, s.
        rows: its scores.
        finished: whether it has ended.
        choice: name of the chosen network; "" if there was no choice.
    """

    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    finished: bool = False
    choice: str = ""


@dataclass
class Progress(Record):
    """The record of a run.

    Attributes:
        device: name of the GPU, or "cpu".
        stages: name of a stage -> how far it is.
    """

    device: str
    stages: dict[str, Stage] = field(default_factory=dict)

    def stage(self, name: str) -> Stage:
        """Return a stage, which is new if it has not begun."""
        return self.stages.setdefault(name, Stage())


class Folder:
    """The folder that travels from chunk to chunk."""

    def __init__(self, path: str):
        self.path = path

    def file(self, name: str) -> str:
        """Return the path of a file."""
        return stores.join(self.path, name)

    def progress(self, device: str) -> Progress:
        """Return the record; a new one in an empty folder.

        Raises:
            UserError: the record is damaged.
        """
        url = self.file(RECORD_FILE)
        return Progress.from_json(stores.read_json(url), url) if stores.exists(url) else Progress(device)

    def write_progress(self, progress: Progress) -> None:
        """Write the record."""
        stores.write_json(self.file(RECORD_FILE), progress.to_json())

    def write(self, name: str, content: bytes) -> None:
        """Write a file; a chunk that is ended meanwhile leaves the former one."""
        stores.write_bytes(self.file(name), content)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if it was not written."""
        return stores.read_bytes(self.file(name)) if stores.exists(self.file(name)) else None

    def require(self, name: str) -> str:
        """Return the path of a file.

        Raises:
            UserError: it was not written.
        """
        if not stores.exists(self.file(name)):
            raise UserError(f"{name} is missing", where=self.path, fix="run the stages before this one")
        return self.file(name)


class Clock:
    """The time of a chunk.

    Args:
        seconds: after which the chunk ends.
        now: returns the time, s.
    """

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic):
        self._now, self.began = now, now()
        self.end = self.began + seconds

    @property
    def left(self) -> float:
        """Seconds until the chunk ends."""
        return self.end - self._now()

    def part(self, seconds: float) -> "Clock":
        """Return the clock of a part of the chunk, which ends with it at the latest."""
        return Clock(min(seconds, self.left), self._now)

    @property
    def passed(self) -> float:
        """Seconds since the chunk, or the part of it, began."""
        return self._now() - self.began
