"""Conversion of other formats to shards: class folders, tables, CIFAR-10, Parquet, the embedded digits."""

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dpt_ray.config.schema import DataConfig
from dpt_ray.data.images.white_level import Levels, WhiteLevel, level_facts, say_levels
from dpt_ray.data.importing import detect
from dpt_ray.data.importing.classes import check_id_gaps
from dpt_ray.data.importing.digits import Split
from dpt_ray.data.importing.facts import image_sizes, left_out_table
from dpt_ray.data.importing.import_plan import ImageSet, Recipe, Unread, num_images
from dpt_ray.data.importing.prepare import Prepared, prepare
from dpt_ray.data.shards.samples import build_shard, sha256
from dpt_ray.data.shards.skipped import Skipped, count_images
from dpt_ray.data.storage import stores
from dpt_ray.distributed.cluster import inference_resources
from dpt_ray.distributed.inference import UnitWorker, UnusableUnitError, run_units
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.shards import (
    LEFT_OUT_FILE,
    SHARDS,
    ShardRecord,
    ShardsFacts,
    WrittenShard,
    ignored_files,
    lost_classes,
    say_ignored,
)
from dpt_ray.pipeline.execution.step import Step, StepContext
from dpt_ray.plugins import origin_settings

_RECORDS, _PLAN_FILE = "records", "plan.jsonl.gz"
_TRAIN = "train"


class PlannedShard(NamedTuple):
    """A shard that will be written: its number, and the bytes of the plan that hold its recipe."""

    number: int
    start: int
    stop: int


class ImportedShards(Step[ShardsFacts]):
    """Write images of another format as WebDataset shards.

    Args:
        split: whether the images are training or test images.
        data: the section `data`: the number of images in a shard, and their size.
        images: the images at their location.
        train: writes the training images. Test images that are resized take over its white level for images of more
            than 8 bits.
    """

    name = "shards"
    version = 3
    facts_type = ShardsFacts

    def __init__(self, split: Split, data: DataConfig, images: ImageSet, train: Step | None = None):
        self.split, self._data, self.images = split, data, images
        takes_level = train is not None and data.prepare_size is not None
        super().__init__(f"{split} shards", {_TRAIN: train} if train is not None and takes_level else {})

    @property
    def settings(self) -> JsonObject:
        data, images = self._data, self.images
        return {
            "source": images.kind,
            **origin_settings("formats", images.kind),
            "split": self.split,
            "location": images.location,
            "listing": images.listing,
            "reader": images.reader_settings(),
            "class_names": images.class_names,
            "images_per_shard": data.images_per_shard,
            "prepare_size": data.prepare_size,
            "max_pixels": data.max_image_pixels,
        }

    def plan(self) -> str:
        if self.images.kind == "digits":
            return f"writing the embedded digits, {self.split} split, as shards"
        size = self._data.prepare_size
        form = f", brought to {size}x{size} pixels" if size else ""
        return f"writing {self.images.location} ({self.images.kind}) as shards{form}"

    def make(self, context: StepContext) -> ShardsFacts:
        recipes = self.images.recipes(self._data.images_per_shard)
        plan, units, total = _plan(recipes)
        stores.write_bytes(context.file(_PLAN_FILE), plan)
        images_in = total + count_images(self.images.refused)
        self._check(context, list(self.images.refused), images_in, ())
        records, levels = self._write_with_one_level(context, units, total)
        if lost := self._lost(context, records):
            _forget(lost)
            records, levels = self._write_with_one_level(context, units, total)
        skipped = [*self.images.refused, *(entry for record in records for entry in record.skipped or ())]
        self._check(context, skipped, images_in, records)
        self._check_classes(records)
        stores.write_bytes(context.file(LEFT_OUT_FILE), left_out_table(skipped, self.images.ignored))
        return self._facts(records, levels, images_in, skipped)

    def _write_with_one_level(
        self, context: StepContext, units: list[PlannedShard], images: int
    ) -> tuple[list[ShardRecord], WhiteLevel | None]:
        """Write all shards with one white level for images of more than 8 bits.

        The level is known once all images are read. Shards with another level are then written again.
        """
        train = context.parents.get(_TRAIN)
        of_training = level.white if train and (level := ShardsFacts.read(train).levels) else None
        records = self._write_shards(context, units, images, of_training)
        levels = level_facts((record.deep for record in records), of_training)
        white = levels.white if levels else None
        stale = [record for record in records if record.deep[0] and record.white != white]
        if stale:
            _forget(stale)
            records = self._write_shards(context, units, images, white)
        return records, levels

    def _write_shards(
        self, context: StepContext, units: list[PlannedShard], images: int, white: int | None
    ) -> list[ShardRecord]:
        records = run_units(
            _ShardWorker,
            {
                "folder": context.folder,
                "kind": self.images.kind,
                "reader_settings": self.images.reader_settings(),
                "data": self._data,
                "white": white,
                "give_up_unread": context.policy.allowed_share == 0,
            },
            units,
            resources=inference_resources(context.cluster),
            progress=context.progress(images),
            policy=context.policy,
            folder=context.folder,
        )
        return [ShardRecord.from_json(record) for record in records]

    def _lost(self, context: StepContext, records: Sequence[ShardRecord]) -> list[ShardRecord]:
        """Return the records whose shards are missing or have another length."""
        there = {file["name"]: file["size"] for file in stores.list_files(context.file(SHARDS))}
        return [record for record in records if record.shard and there.get(record.shard.name) != record.shard.bytes]

    def _check(
        self, context: StepContext, skipped: list[Skipped], images_in: int, records: Sequence[ShardRecord]
    ) -> None:
        try:
            context.policy.check(skipped, images_in)
            if images_in == count_images(skipped):
                raise UserError("holds no image that can be used", where=self.images.location)
        except UserError:
            _forget_unread(records)
            raise

    def _check_classes(self, records: Sequence[ShardRecord]) -> None:
        """Refuse to leave out all images of a class, whatever share of images may be left out.

        Raises:
            UserError: a class has no image left; the message contains the first such class.
        """
        before = set(self.images.planned_counts())
        before.update(label for record in records for label in record.refused_classes)
        gone = sorted(before - {label for record in records for label in record.classes})
        if gone:
            _forget_unread(records)
            raise lost_classes(gone, self.images.class_names, self.images.location)

    def _facts(
        self, records: Sequence[ShardRecord], levels: WhiteLevel | None, images_in: int, skipped: Sequence[Skipped]
    ) -> ShardsFacts:
        shards = tuple(record.shard for record in records if record.shard)
        classes: Counter[int] = Counter()
        sizes: Counter[tuple[int, int]] = Counter()
        for record in records:
            classes.update(record.classes)
            for width, height, count in record.sizes:
                sizes[width, height] += count
        names = self.images.class_names
        if not names and self._data.num_classes is None:
            check_id_gaps(classes, self.images.location)
        num_classes = len(names) if names else max(classes, default=-1) + 1
        images = sum(shard.images for shard in shards)
        return ShardsFacts(
            images=images,
            unlabelled=images - classes.total(),
            files=shards,
            bytes=sum(shard.bytes for shard in shards),
            class_names=names or None,
            images_per_class=tuple(classes[label] for label in range(num_classes)),
            sizes=image_sizes(sizes),
            notes=self.images.notes,
            ignored=ignored_files(self.images.ignored),
            levels=levels,
            images_in=images_in,
            skipped=tuple(skipped),
        )

    def summary(self, facts: ShardsFacts) -> str:
        text = f"{facts.images:,} images in {len(facts.files)} shards"
        lost = count_images(facts.skipped)
        text += f"; {lost:,} of {facts.images_in:,} refused" if lost else ""
        levels = filter(None, [say_levels(facts.levels)])
        return "; ".join([text + say_ignored(self.images.ignored), *levels, *facts.notes])


def _forget_unread(records: Sequence[ShardRecord]) -> None:
    """Remove records of shards with images that could not be fetched, so that the next start tries again."""
    _forget([record for record in records if record.unread])


def _forget(records: Iterable[ShardRecord]) -> None:
    """Remove the files of records, so that their shards are written again."""
    for record in records:
        if record.url is not None:
            stores.remove_tree(record.url)


def _plan(recipes: Iterable[Recipe]) -> tuple[bytes, list[PlannedShard], int]:
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


class _ShardWorker(UnitWorker):
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
        line = stores.read_range(stores.join(self._folder, _PLAN_FILE), unit.start, unit.stop)
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
