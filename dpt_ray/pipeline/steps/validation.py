"""Images that are held out of all training: to compare settings, so that the test split stays unread, or to evaluate a
run that has no test split."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from dpt_ray.config.search_settings import ValidationConfig
from dpt_ray.core.seeds import derive_seeds
from dpt_ray.data.shards.copies import Copies, ImageNumbers
from dpt_ray.data.shards.index import INDEX_FILE, DatasetIndex, ShardInfo, few_or_many, read_index
from dpt_ray.data.shards.label_choice import Candidates, draw_smallest
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.held_out import ROWS_FILE, DataPartFacts, read_choice, write_choice
from dpt_ray.pipeline.artifacts.labelled import ChoiceFacts, read_labelled, write_labelled
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.execution.divide_index import Part, divide_sidecars, kept_rows, labelled_rest
from dpt_ray.pipeline.execution.draw_many import draw_many
from dpt_ray.pipeline.execution.repeated_images import find_repeated
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
    version = 3
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
        numbers = ImageNumbers(index)
        known = _given(context.parents["labelled"], self._config.seed) if "labelled" in context.parents else _NONE
        repeated = find_repeated(context, index, "pixels", "all").records
        copies = Copies(numbers.of(repeated["shard"], repeated["row"]), _group_numbers(repeated), repeated["label"])
        given = numbers.of(known.shards, known.rows)
        if self._config.images == "labelled":
            available = np.bincount(known.labels, minlength=index.num_classes)
            chosen = draw_smallest(known, self._counts(available, index.class_counts))
            held_out = np.zeros(index.num_images, bool)
            held_out[given[chosen]] = True
            copies.add(held_out)
            gone = np.bincount(known.labels[held_out[given]], minlength=index.num_classes)
        else:
            spared = np.zeros(index.num_images, bool)
            spared[given] = True
            lost = _classes_in_data(context, known, index.num_classes) + copies.add(spared, index.num_classes)
            available = np.array(index.class_counts) - lost
            counts = self._counts(available, index.class_counts)
            salt, rows = (_SALT, self._config.seed), numbers.by_shard(np.flatnonzero(spared))
            del spared
            held_out = draw_many(context, index, salt, counts, available.tolist(), rows)
            gone = np.array(counts) + copies.add(held_out, index.num_classes)
        self._check_left(available, gone)
        write_choice(context.file(ROWS_FILE), held_out, numbers.counts)
        return ChoiceFacts(images=int(held_out.sum()), of=int(available.sum()))

    def _counts(self, available: np.ndarray, class_counts: Sequence[int]) -> list[int]:
        """Return how many images of each class are held out, of those that may be.

        Args:
            available: images of each class that may be held out, int64 (C,).
            class_counts: images of each class in the data.
        """
        if not available.any():
            raise self._no_label(class_counts)
        counts = []
        for label, images in enumerate(available.tolist()):
            count = (self._config.per_class or max(1, round((self._share or 0) * images))) if images else 0
            if images and count >= images:
                raise self._leaves_none(count, images, label)
            counts.append(count)
        return counts

    def _check_left(self, available: np.ndarray, held_out: np.ndarray) -> None:
        """Refuse a choice after which a class has no image left, because the others are copies of the chosen ones."""
        gone = np.flatnonzero((available > 0) & (held_out >= available))
        if len(gone):
            images = int(available[gone[0]])
            raise self._leaves_none(images, images, int(gone[0]))

    def _no_label(self, class_counts: Sequence[int]) -> UserError:
        what = "no training image has a true label"
        if self._purpose == "validation":
            return UserError(what, where="validation.images", fix="set it to labelled")
        if "labelled" in self.parents:
            what = "no image besides those of labels.file has a true label, so none can be held out for evaluation"
        fix = "give data.test, or set labels.fraction=1: then a part of all labelled images is held out"
        if not any(class_counts):
            fix = "give data.test; of a table of image files, given as data.train_labels, a part is held out"
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
    version = 3
    facts_type = DataPartFacts

    def __init__(
        self,
        part: Part,
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
        shards = []
        for position, shard in enumerate(whole.shards):
            kept = kept_rows(shard.samples, chosen.get(position), self._part)
            if len(kept):
                shards.append(_keep_rows(shard, kept))
        counts = divide_sidecars(context, whole, chosen, self._part, context.file(_LABELS))
        class_counts, folder = tuple(counts.tolist()), context.file(_LABELS)
        index = DatasetIndex(tuple(shards), class_counts, folder, whole.class_names, whole.layout_folder)
        stores.write_json(context.file(INDEX_FILE), index.to_json(context.folder, row_bits=True))
        return DataPartFacts(images=index.num_images, shards=len(shards), images_per_class=class_counts)


def _keep_rows(shard: ShardInfo, kept: np.ndarray) -> ShardInfo:
    """Return a shard with only the `kept` ones of its usable rows."""
    usable = np.setdiff1d(np.arange(shard.samples + len(shard.skipped)), shard.skipped)
    left_out = np.setdiff1d(np.arange(shard.samples + len(shard.skipped)), usable[kept])
    return replace(shard, samples=len(kept), skipped=few_or_many(left_out))


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
        index = read_index(context.parents["images"].url)
        rest = labelled_rest(context, index, context.parents["labelled"])
        write_labelled(context.folder, rest)
        return ChoiceFacts(images=len(rest), of=ChoiceFacts.read(context.parents["labelled"]).images)


_NONE = Candidates.joined([])
_SALT = "validation"


def _given(labelled: Artifact, seed: int) -> Candidates:
    """Return given labelled images as candidates for validation."""
    images = read_labelled(labelled)
    shards, rows, labels = (
        np.array([getattr(i, name) for i in images], np.int32) for name in ("shard", "row", "label")
    )
    keys = [image.key for image in images]
    return Candidates(shards, rows, labels, derive_seeds((_SALT, seed), keys), keys)


def _classes_in_data(context: StepContext, known: Candidates, num_classes: int) -> np.ndarray:
    """Return how many of the given labelled images have each class in the data, int64 (C,)."""
    facts = ChoiceFacts.read(context.parents["labelled"]) if "labelled" in context.parents else None
    if facts is None or facts.classes_in_data is None:
        return np.bincount(known.labels, minlength=num_classes)
    return np.array(facts.classes_in_data)


def _group_numbers(records: np.ndarray) -> np.ndarray:
    """Return the number of the pixels of each record, which are sorted by hash, int64 (M,)."""
    if not len(records):
        return np.zeros(0, np.int64)
    differs = (records["first"][1:] != records["first"][:-1]) | (records["second"][1:] != records["second"][:-1])
    return np.concatenate([[0], np.cumsum(differs)])
