"""The facts of all units of a step, held by the driver in little memory."""

import json
import zlib
from collections.abc import Iterator, Sequence

from dpt_ray.json_values import JsonObject

_FAST = 1
"""Level of compression."""


def packed_facts(facts: JsonObject) -> bytes:
    """Return facts as compressed JSON."""
    return zlib.compress(json.dumps(facts, separators=(",", ":"), ensure_ascii=False).encode(), _FAST)


def unpacked_facts(content: bytes) -> JsonObject:
    """Return what `packed_facts` was given."""
    facts: JsonObject = json.loads(zlib.decompress(content))
    return facts


class UnitsFacts:
    """The facts of units, in the order of the units; each is decoded whenever it is read.

    The images of each class in a shard are a dictionary of some 100 kB, and of some 3 kB here. So whoever reads the
    facts of many shards should go through them once, and keep sums.

    Args:
        packed: result of `packed_facts` for each unit.
    """

    def __init__(self, packed: Sequence[bytes]):
        self._packed = packed

    def __len__(self) -> int:
        return len(self._packed)

    def __iter__(self) -> Iterator[JsonObject]:
        return map(unpacked_facts, self._packed)

    def __getitem__(self, number: int) -> JsonObject:
        return unpacked_facts(self._packed[number])
