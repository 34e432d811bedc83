"""Images that are held out of all training: to compare settings, so that the test split stays unread, or to evaluate a
run that has no test split."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from dpt_ray.config.search_settings import ValidationConfig
from dpt_ray.core.row_random import derive_seed
from dpt_ray.data.loading.source import LABEL
from dpt_ray.data.shards.copies import Copies, Place
from dpt_ray.data.shards.index import INDEX_FILE, DatasetIndex, ShardInfo, read_index
from dpt_ray.data.shards.label_choice import LabelledImage
from dpt_ray.data.shards.sidecars import KEY, encode_sidecar, read_sidecar, sidecar_name
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.held_out import ROWS_FILE, DataPartFacts, read_choice
from dpt_ray.pipeline.artifacts.labelled import AllImages, ChoiceFacts, read_labelled, write_labelled
from dpt_ray.pipeline.execution.step import Step, StepContext

Purpose = Literal["validation", "test"]
"""Whether held-out images compare settings of a search, or evaluate a run without test data."""

DEFAULT_SHARE = 0.2
_LABELS = "labels"


class ValidationChoice(Step[ChoiceFacts]):
    """Choose the validation images among the training images.

    A hash of seed and key ranks the images of a class, so a larger set contains a smaller one. Images with the pixels
    of a chosen one are held out too, whatever their labels: a network could know the chosen one by heart.

    Args:
        config: the section `validation` of the tune file, or the same for a drawn test split.
        train_data: indexes all training images.
        labelled: chooses the labelled images. With `images: labelled` the validation images are some of them, otherwise
            none of them. None if the labelled images are drawn afterwards, from the remaining images.
        purpose: what the images are for. It affects words alone.
    """

    name = "validation_choice"
    version = 2
    facts_type = ChoiceFacts

    def __init__(
        self, config: ValidationConfig, train_data: Step, labelled: Step | None, purpose: Purpose = "validation"
    ):
        self._config, self._purpose = config, purpose
        parents: dict[str, Step] = {"images": train_data}
        if labelled is not None:
            parents["labelled"] = labelled
        super().__init__(f"{'held-out' if purpose == 'test' else purpose} choice", parents)

    @property
    def settings(self) -> JsonObject:
        config = self._config
        return {"from": config.images, "share": self._share, "per_class": config.per_class, "seed": config.seed}

    @property
    def _share(self) -> float | None:
        """The share of every class that is kept out; None where `per_class` gives a number."""
        given = self._config.share is not None or self._config.per_class is not None
        return self._config.share if given else DEFAULT_SHARE

    def plan(self) -> str:
        if self._purpose == "test":
            return f"drawing {self._share or 0:.0%} of every class for evaluation, since data.test is not given"
        return "choosing the images to compare on"

    def summary(self, facts: ChoiceFacts) -> str:
        return f"{facts.images:,} of {facts.of:,} images"

    def make(self, context: StepContext) -> ChoiceFacts:
        index = read_index(context.parents["images"].url)
        known = read_labelled(context.parents["labelled"]) if "labelled" in context.parents else []
        copies = Copies(index)
        if self._config.images == "labelled":
            candidates = known
        else:
            spared = copies.of(known)
            candidates = [i for i in AllImages(index) if i.label >= 0 and (i.shard, i.row) not in spared]
        held_out = copies.of(self._choose(candidates))
        self._check_left(candidates, held_out)
        rows: dict[int, list[int]] = defaultdict(list)
        for shard, row in held_out:
            rows[shard].append(row)
        stores.write_json(context.file(ROWS_FILE), {str(shard): sorted(rows[shard]) for shard in sorted(rows)})
        return ChoiceFacts(images=sum(map(len, rows.values())), of=len(candidates))

    def _choose(self, candidates: Sequence[LabelledImage]) -> list[LabelledImage]:
        classes: dict[int, list[LabelledImage]] = defaultdict(list)
        for image in candidates:
            classes[image.label].append(image)
        if not classes:
            raise self._no_label()
        chosen = []
        for label, members in sorted(classes.items()):
            count = self._config.per_class or max(1, round((self._share or 0) * len(members)))
            if count >= len(members):
                raise self._leaves_none(count, len(members), label)
            members.sort(key=lambda image: (derive_seed("validation", self._config.seed, image.key), image.key))
            chosen += members[:count]
        return chosen

    def _check_left(self, candidates: Sequence[LabelledImage], held_out: Collection[Place]) -> None:
        """Refuse a choice after which a class has no image left, because the others are copies of the chosen ones."""
        left = {image.label for image in candidates if (image.shard, image.row) not in held_out}
        for label in sorted({image.label for image in candidates} - left):
            images = sum(image.label == label for image in candidates)
            raise self._leaves_none(images, images, label)

    def _no_label(self) -> UserError:
        what = "no training image has a true label"
        if self._purpose == "validation":
            return UserError(what, where="validation.images", fix="set it to labelled")
        if "labelled" in self.parents:
            what = "no image besides those of labels.file has a true label, so none can be held out for evaluation"
        fix = "give data.test, or set labels.fraction=1: then a part of all labelled images is held out"
        return UserError(what, where="data.test_share", fix=fix)

    def _leaves_none(self, count: int, images: int, label: int) -> UserError:
        kind = "labelled images" if self._config.images == "labelled" else "images"
        what = f"{count} of the {images} {kind} of class {label} would be kept out, which leaves none"
        if self._purpose == "test":
            fix = "give each class two images with a label at least, lower data.test_share, or give data.test"
            return UserError(what, where="data.test_share", fix=fix)
        by_labels = self._config.images == "labelled"
        fix = "use validation.images: training, or more labels" if by_labels else "lower share or per_class"
        return UserError(what, where="validation", fix=fix)


class DataPart(Step[DataPartFacts]):
    """Index a part of the training images: the remaining training images, or the validation images.

    Shards are not changed: an index can leave out rows of a shard.

    Args:
        part: the part; `validation` is that of all held-out images.
        train_data: indexes all training images.
        choice: chooses the held-out images.
        purpose: what the held-out images are for. It affects words alone.
    """

    name = "data_part"
    version = 2
    facts_type = DataPartFacts

    def __init__(
        self,
        part: Literal["training", "validation"],
        train_data: Step,
        choice: ValidationChoice,
        purpose: Purpose = "validation",
    ):
        self._part = part
        name = "held-out" if (part, purpose) == ("validation", "test") else part
        super().__init__(f"{name} images", {"images": train_data, "choice": choice})

    @property
    def settings(self) -> JsonObject:
        return {"part": self._part}

    def plan(self) -> str:
        return "dividing the index"

    def summary(self, facts: DataPartFacts) -> str:
        return f"{facts.images:,} images in {facts.shards} shards"

    def make(self, context: StepContext) -> DataPartFacts:
        whole = read_index(context.parents["images"].url)
        chosen = read_choice(context.parents["choice"].file(ROWS_FILE))
        shards, counts = [], np.zeros(whole.num_classes, np.int64)
        for position, shard in enumerate(whole.shards):
            is_chosen = np.isin(np.arange(shard.samples), chosen.get(position, []))
            kept = np.flatnonzero(is_chosen == (self._part == "validation"))
            if not len(kept):
                continue
            sidecar = read_sidecar(whole.label_sidecar(position), [LABEL])
            labels = sidecar[LABEL][kept]
            keys = [sidecar[KEY][row] for row in kept]
            columns = {LABEL: labels, **whole.hashes(position).columns(kept.tolist())}
            shards.append(_keep_rows(shard, kept))
            stores.write_bytes(context.file(_LABELS, sidecar_name(shard.number)), encode_sidecar(keys, columns))
            counts += np.bincount(labels[labels >= 0], minlength=whole.num_classes)
        class_counts, folder = tuple(counts.tolist()), context.file(_LABELS)
        index = DatasetIndex(tuple(shards), class_counts, folder, whole.class_names, whole.layout_folder)
        stores.write_json(context.file(INDEX_FILE), index.to_json(context.folder))
        return DataPartFacts(images=index.num_images, shards=len(shards), images_per_class=tuple(counts.tolist()))


def _keep_rows(shard: ShardInfo, kept: np.ndarray) -> ShardInfo:
    """Return a shard with only the `kept` ones of its usable rows."""
    usable = np.setdiff1d(np.arange(shard.samples + len(shard.skipped)), shard.skipped)
    left_out = np.setdiff1d(np.arange(shard.samples + len(shard.skipped)), usable[kept])
    return replace(shard, samples=len(kept), skipped=tuple(left_out.tolist()))


class LabelledRest(Step[ChoiceFacts]):
    """Select the labelled images among the remaining training images.

    Args:
        labelled: chooses all labelled images.
        part: indexes the remaining training images.
    """

    name = "labelled_rest"
    facts_type = ChoiceFacts

    def __init__(self, labelled: Step, part: DataPart):
        super().__init__("labelled images left", {"labelled": labelled, "images": part})

    @property
    def settings(self) -> JsonObject:
        return {}

    def plan(self) -> str:
        return "leaving out validation images"

    def summary(self, facts: ChoiceFacts) -> str:
        return f"{facts.images:,} of {facts.of:,} labelled images"

    def make(self, context: StepContext) -> ChoiceFacts:
        labelled = {image.key: image for image in read_labelled(context.parents["labelled"])}
        index = read_index(context.parents["images"].url)
        rest = [replace(i, label=labelled[i.key].label) for i in AllImages(index) if i.key in labelled]
        write_labelled(context.folder, rest)
        return ChoiceFacts(images=len(rest), of=len(labelled))
