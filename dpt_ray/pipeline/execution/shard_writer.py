"""The writing of imported shards: the plan of all of them, and the worker that writes one."""

import gzip
import json
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from dpt_ray.config.data_section import DataConfig
from dpt_ray.data.images.white_level import Levels
from dpt_ray.data.importing import detect
from dpt_ray.data.importing.import_plan import Recipe, Unread, num_images
from dpt_ray.data.importing.prepare import Prepared, prepare
from dpt_ray.data.shards.samples import build_shard, sha256
from dpt_ray.data.shards.skipped import Skipped, count_images
from dpt_ray.data.storage import stores
from dpt_ray.distributed.units import UnitWorker, UnusableUnitError
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.shards import SHARDS, WrittenShard

_RECORDS, PLAN_FILE = "records", "plan.jsonl.gz"


class PlannedShard(NamedTuple):
    """A shard that will be written: its number, and the bytes of the plan that hold its recipe."""

    number: int
    start: int
    stop: int


def plan_shards(recipes: Iterable[Recipe]) -> tuple[bytes, list[PlannedShard], int]:
    """Return the file of all recipes, a line each, the shards, and the number of images.

    Each recipe is compressed for itself, so that whoever writes a shard reads its own alone.
    """
    parts, units, start, total = [], [], 0, 0
    for number, recipe in enumerate(recipes):
        line = json.dumps(recipe, separators=(",", ":"), ensure_ascii=False) + "\n"
        parts.append(gzip.compress(line.encode(), compresslevel=5, mtime=0))
        units.append(PlannedShard(number, start, start + len(parts[-1])))
        start, total = units[-1].stop, total + num_images(recipe)
    return b"".join(parts), units, total


class ShardWorker(UnitWorker):
    """Writes shards. The output file of a unit is a record, which is written after the shard is complete.

    The record describes the shard and the images that were left out, so a shard of an interrupted start is not read
    again. A unit without a usable image has a record and no shard.
    """

    def __init__(
        self,
        folder: str,
        kind: str,
        reader_settings: JsonObject,
        data: DataConfig,
        white: int | None,
        give_up_unread: bool,
    ):
        self._folder, self._kind, self._reader_settings = folder, kind, reader_settings
        self._data, self._white, self._give_up_unread = data, white, give_up_unread

    def output_url(self, unit: PlannedShard) -> str:
        return stores.join(self._folder, _RECORDS, f"{unit.number:05d}.json")

    def make(self, unit: PlannedShard) -> bytes:
        line = stores.read_range(stores.join(self._folder, PLAN_FILE), unit.start, unit.stop)
        recipe = json.loads(gzip.decompress(line))
        prepared: list[Prepared] = []
        skipped: list[Skipped] = []
        refused: set[int] = set()
        levels = Levels()
        size, max_pixels = self._data.prepare_size, self._data.max_image_pixels
        for found in detect.read(self._kind, self._reader_settings, recipe):
            result: Prepared | Skipped = (
                found if isinstance(found, Skipped) else prepare(found, size, max_pixels, self._white, levels)
            )
            if isinstance(result, Prepared):
                prepared.append(result)
                continue
            skipped.append(result)
            if not isinstance(found, Skipped) and found.label is not None:
                refused.add(found.label)
        unread = count_images(entry for entry in skipped if isinstance(entry, Unread))
        if unread and self._give_up_unread:
            raise UnusableUnitError(skipped)
        record = {
            "images": recipe["images"],
            "shard": self._write_shard(unit.number, prepared).to_json() if prepared else None,
            "classes": dict(sorted(Counter(p.label for p in prepared if p.label is not None).items())),
            "refused_classes": sorted(refused),
            "sizes": sorted([*size, count] for size, count in Counter(p.size for p in prepared).items()),
            "deep": [levels.images, levels.largest],
            "white": self._white,
            "unread": unread,
            "skipped": [entry.to_json() for entry in skipped],
        }
        return json.dumps(record, ensure_ascii=False).encode()

    def _write_shard(self, number: int, prepared: list[Prepared]) -> WrittenShard:
        name, content = f"{number:05d}.tar", build_shard(p.sample for p in prepared)
        stores.write_bytes(stores.join(self._folder, SHARDS, name), content)
        return WrittenShard(name, len(content), sha256(content), len(prepared))

    def facts(self, unit: PlannedShard, content: bytes) -> JsonObject:
        record: JsonObject = json.loads(content)
        return record
