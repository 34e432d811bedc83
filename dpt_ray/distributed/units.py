"""Units of batch inference, and what makes the file of each."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dpt_ray.data.loading.shard_samples import read_shard_samples
from dpt_ray.data.shards.index import DatasetIndex, ShardInfo
from dpt_ray.data.shards.samples import Sample
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage.json_records import Record
from dpt_ray.errors import StoreFailureError, UserError
from dpt_ray.json_values import JsonObject


class UnusableUnitError(Exception):
    """A unit has no output because its input cannot be used.

    Attributes:
        skipped: the unusable input, with the reasons.
    """

    def __init__(self, skipped: list[Skipped]):
        super().__init__(skipped)
        self.skipped = skipped


@dataclass(frozen=True)
class UnitFacts(Record):
    """The facts that every unit has. The records of a step have these fields and further ones.

    Attributes:
        images: images in the unit's file; 0 without a file.
        skipped: input that was left out; None for nothing.
    """

    images: int
    skipped: tuple[Skipped, ...] | None = None


@dataclass(frozen=True)
class ShardUnit:
    """A shard as a unit.

    Attributes:
        number: its position in the index.
        shard: its entry there.
        input_sidecar: URL of the shard's sidecar by another step, which the work reads; None if there is none.
    """

    number: int
    shard: ShardInfo
    input_sidecar: str | None = None


def shard_units(index: DatasetIndex, sidecars: Sequence[str | None] | None = None) -> list[ShardUnit]:
    """Return the shards of an index as units, with the URLs of the sidecars that another step made for them."""
    return [
        ShardUnit(number, shard, sidecars[number] if sidecars is not None else None)
        for number, shard in enumerate(index.shards)
    ]


class UnitWorker(ABC):
    """Computes the output files of units. One instance processes many units, so it may hold a model."""

    @abstractmethod
    def output_url(self, unit: Any) -> str:
        """Return the URL of the unit's file."""

    @abstractmethod
    def make(self, unit: Any) -> bytes:
        """Return the content of the unit's file, which depends on the worker's settings and the unit alone.

        Raises:
            UnusableUnitError: the unit has no output. No file is written, so the next call tries the unit again.
        """

    @abstractmethod
    def facts(self, unit: Any, content: bytes) -> JsonObject:
        """Return the facts of a finished file that the step needs, with those of `UnitFacts`."""


def read_unit_samples(shard: ShardInfo) -> list[Sample]:
    """Return a shard's usable samples, for a unit of batch inference.

    Raises:
        UnusableUnitError: the shard is missing or damaged.
        StoreFailureError: the store does not answer.
    """
    try:
        return read_shard_samples(shard)
    except StoreFailureError:
        raise
    except UserError as error:
        raise UnusableUnitError([Skipped(shard.url, None, error.what, shard.samples)]) from None
