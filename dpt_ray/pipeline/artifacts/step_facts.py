"""The facts of an artifact: what its step counted or found, stored in the manifest for later steps and for people.

The module of each kind of artifact declares its facts as a subclass of `Facts`. The names and the order of the fields
are those of the manifest. A field that an older version did not write has a default.
"""

from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

from dpt_ray.data.shards.skipped import Skipped, count_images
from dpt_ray.data.storage.json_records import Record, optional
from dpt_ray.pipeline.artifacts.store import MANIFEST_FILE, REMOVE, Artifact


@dataclass(frozen=True, kw_only=True)
class Facts(Record):
    """The facts of one kind of artifact."""

    @classmethod
    def read(cls, artifact: Artifact) -> Self:
        """Return the facts of a finished artifact.

        Raises:
            UserError: the manifest holds other facts.
        """
        what = "a manifest with the facts of its step"
        return cls.from_json(artifact.facts, artifact.file(MANIFEST_FILE), what, REMOVE)


@runtime_checkable
class HasSkipped(Protocol):
    """Facts of a step that may leave images out."""

    @property
    def images_in(self) -> int:
        """Images that the step read, with those that it left out."""

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The images that it left out."""


def summarise_skipped(facts: HasSkipped) -> str:
    """Say how many images an artifact leaves out; return an empty text if there are none."""
    lost = count_images(facts.skipped)
    return f"; {lost:,} of {facts.images_in:,} left out" if lost else ""


@dataclass(frozen=True, kw_only=True)
class ShardFile(Record):
    """The file that batch inference made for one shard.

    Attributes:
        url: URL of the file.
        bytes: its size.
        sha256: its checksum in hexadecimal digits; None for a shard that could not be read, which has no file.
        images: images in it.
        skipped: what was left out; None for nothing.
    """

    url: str | None = optional()
    bytes: int | None = optional()
    sha256: str | None = optional()
    images: int
    skipped: tuple[Skipped, ...] | None = optional()

    @property
    def file(self) -> "ShardFile":
        """What the facts keep: these values, without those that subclasses add."""
        return ShardFile(url=self.url, bytes=self.bytes, sha256=self.sha256, images=self.images, skipped=self.skipped)

    @property
    def is_made(self) -> bool:
        """Whether there is a file."""
        return self.sha256 is not None

    @property
    def num_skipped(self) -> int:
        """Images that were left out."""
        return count_images(self.skipped or ())
