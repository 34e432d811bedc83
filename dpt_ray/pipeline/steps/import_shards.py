"""Conversion of other formats to shards: class folders, tables, CIFAR-10, Parquet, the embedded digits."""

from collections.abc import Iterable, Sequence

from dpt_ray.config.data_section import DataConfig
from dpt_ray.data.images.white_level import WhiteLevel, level_facts, say_levels
from dpt_ray.data.importing.classes import check_id_gaps
from dpt_ray.data.importing.digits import Split
from dpt_ray.data.importing.facts import image_sizes, left_out_table
from dpt_ray.data.importing.import_plan import ImageSet
from dpt_ray.data.shards.skipped import Skipped, count_images
from dpt_ray.data.storage import stores
from dpt_ray.distributed.inference import run_units
from dpt_ray.distributed.resources import inference_resources
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.shards import (
    LEFT_OUT_FILE,
    SHARDS,
    ShardRecord,
    ShardsFacts,
    WrittenShards,
    ignored_files,
    lost_classes,
    say_ignored,
)
from dpt_ray.pipeline.execution.shard_writer import PLAN_FILE, PlannedShard, ShardWorker, plan_shards
from dpt_ray.pipeline.execution.step import Step, StepContext
from dpt_ray.plugins import origin_settings

_TRAIN = "train"


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
        plan, units, total = plan_shards(recipes)
        stores.write_bytes(context.file(PLAN_FILE), plan)
        images_in = total + count_images(self.images.refused)
        self._check(context, list(self.images.refused), images_in, ())
        written, levels = self._write_with_one_level(context, units, total)
        if lost := self._lost(context, written.records):
            _forget(lost)
            written, levels = self._write_with_one_level(context, units, total)
        skipped = [*self.images.refused, *(entry for record in written.records for entry in record.skipped or ())]
        self._check(context, skipped, images_in, written.records)
        self._check_classes(written)
        stores.write_bytes(context.file(LEFT_OUT_FILE), left_out_table(skipped, self.images.ignored))
        return self._facts(written, levels, images_in, skipped)

    def _write_with_one_level(
        self, context: StepContext, units: list[PlannedShard], images: int
    ) -> tuple[WrittenShards, WhiteLevel | None]:
        """Write all shards with one white level for images of more than 8 bits.

        The level is known once all images are read. Shards with another level are then written again.
        """
        train = context.parents.get(_TRAIN)
        of_training = level.white if train and (level := ShardsFacts.read(train).levels) else None
        written = self._write_shards(context, units, images, of_training)
        levels = level_facts((record.deep for record in written.records), of_training)
        white = levels.white if levels else None
        stale = [record for record in written.records if record.deep[0] and record.white != white]
        if stale:
            _forget(stale)
            written = self._write_shards(context, units, images, white)
        return written, levels

    def _write_shards(
        self, context: StepContext, units: list[PlannedShard], images: int, white: int | None
    ) -> WrittenShards:
        reports = run_units(
            ShardWorker,
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
        return WrittenShards.add_up(reports)

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

    def _check_classes(self, written: WrittenShards) -> None:
        """Refuse to leave out all images of a class, whatever share of images may be left out.

        Raises:
            UserError: a class has no image left; the message contains the first such class.
        """
        gone = sorted((set(self.images.planned_counts()) | written.refused_classes) - written.classes.keys())
        if gone:
            _forget_unread(written.records)
            raise lost_classes(gone, self.images.class_names, self.images.location)

    def _facts(
        self, written: WrittenShards, levels: WhiteLevel | None, images_in: int, skipped: Sequence[Skipped]
    ) -> ShardsFacts:
        shards = tuple(record.shard for record in written.records if record.shard)
        classes = written.classes
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
            sizes=image_sizes(written.sizes),
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
