"""Test images that training would see: the same pixels are refused, what looks the same is counted and listed."""

import csv
import io
from collections.abc import Sequence
from typing import Literal

import numpy as np

from dpt_ray.data.images.perceptual_hash import ImageHashes, is_comparable
from dpt_ray.data.shards.duplicates import DuplicateSearch, Found, Pair, limits_for
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.overlap import (
    MOST_LISTED,
    PAIRS_FILE,
    ImagePair,
    OverlapFacts,
    PairCounts,
    PairedImage,
    tell_exact,
    tell_near,
)
from dpt_ray.pipeline.execution.step import Step, StepContext
from dpt_ray.text import csv_cell

TOLD_PAIRS, _TOLD_IN_ERROR = 20, 2

OnOverlap = Literal["fail", "report"]


class Overlap(Step[OverlapFacts]):
    """Which test images are also training images, pixel for pixel or nearly.

    It reads the hashes that indexing made, no images and no labels. No training builds on it, so its address is in
    no training's.

    Args:
        train_data: the training images.
        test_data: the test images.
        on_overlap: `data.on_overlap`; it says what is tolerated, so it is no part of the address.
    """

    name = "overlap"
    facts_type = OverlapFacts

    def __init__(self, train_data: Step, test_data: Step, on_overlap: OnOverlap):
        self._on_overlap = on_overlap
        size = test_data.settings["image_size"]
        super().__init__(
            "overlap of the splits", {"image_size": size}, {"train_data": train_data, "test_data": test_data}
        )

    def plan(self) -> str:
        return "comparing test images with training images"

    def make(self, context: StepContext) -> OverlapFacts:
        train, test = (read_index(context.parents[role].url) for role in ("train_data", "test_data"))
        held = _joined([test.hashes(position) for position in range(len(test.shards))])
        search = DuplicateSearch(held, limits_for(self.settings["image_size"]), MOST_LISTED)
        progress, seen = context.progress(train.num_images), 0
        for position, shard in enumerate(train.shards):
            search.add(position, train.hashes(position))
            seen += shard.samples
            progress.update(seen)
        near = sorted(search.near.listed, key=lambda pair: (pair.bits, pair.held_row, pair.shard, pair.row))
        named = _NamedPairs(train, test).name([*search.exact.listed, *near])
        stores.write_bytes(context.file(PAIRS_FILE), _table(named))
        search.near.held &= ~search.exact.held
        return OverlapFacts(
            train_images=train.num_images,
            test_images=test.num_images,
            exact=_counts(search.exact),
            near=_counts(search.near),
            without_perceptual_hash={
                "train": search.not_compared,
                "test": int((~is_comparable(held.perceptual)).sum()),
            },
            listed=len(named),
            first=tuple(named[:TOLD_PAIRS]),
        )

    def summary(self, facts: OverlapFacts) -> str:
        return f"{tell_exact(facts)}; {tell_near(facts)}"

    def check(self, facts: OverlapFacts, folder: str) -> None:
        """Refuse test images that are training images, unless the settings allow them.

        Raises:
            UserError: there are some.
        """
        if not facts.exact.pairs or self._on_overlap == "report":
            return
        equal = [pair for pair in facts.first if pair.bits is None]
        examples = {pair.test.key: pair.train.key for pair in reversed(equal)}
        told = [f"test image {test!r} is training image {train!r}" for test, train in examples.items()]
        raise UserError(
            f"{tell_exact(facts)} ({', '.join(told[: -_TOLD_IN_ERROR - 1 : -1])}; "
            f"all are listed in {stores.join(folder, PAIRS_FILE)})",
            where="data.test",
            fix="remove them from the training or the test images, or set data.on_overlap=report to go on with them",
        )


def _counts(found: Found) -> PairCounts:
    return PairCounts(int(found.held.sum()), found.images, found.pairs)


def _joined(parts: list[ImageHashes]) -> ImageHashes:
    return ImageHashes(
        np.concatenate([part.pixels for part in parts]), np.concatenate([part.perceptual for part in parts])
    )


class _NamedPairs:
    """Gives the images of pairs their names; the keys of a few shards are held at a time."""

    def __init__(self, train: DatasetIndex, test: DatasetIndex):
        self._train, self._test = train, test
        self._test_ends = np.cumsum([shard.samples for shard in test.shards])

    def name(self, pairs: list[Pair]) -> list[ImagePair]:
        """Return the pairs with their images' names."""
        train = self._images([(pair.shard, pair.row) for pair in pairs], self._train)
        test = self._images([self._test_place(pair.held_row) for pair in pairs], self._test)
        return [ImagePair(pair.bits, *images) for pair, *images in zip(pairs, train, test, strict=True)]

    def _test_place(self, held_row: int) -> tuple[int, int]:
        """Return the shard's number, and the row there, of a row among all test images."""
        number = int(np.searchsorted(self._test_ends, held_row, "right"))
        return number, held_row - int(self._test_ends[number]) + self._test.shards[number].samples

    @staticmethod
    def _images(places: list[tuple[int, int]], index: DatasetIndex) -> list[PairedImage]:
        found: dict[tuple[int, int], PairedImage] = {}
        keys: list[str] = []
        last = -1
        for number, row in sorted(set(places)):
            if number != last:
                keys, last = index.keys(number), number
            found[number, row] = PairedImage(number, row, index.shards[number].url, keys[row])
        return [found[place] for place in places]


def _table(pairs: Sequence[ImagePair]) -> bytes:
    """Return named pairs as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["kind", "different_bits", "test_shard", "test_image", "train_shard", "train_image"])
    for pair in pairs:
        kind = "similar" if pair.bits is not None else "equal"
        names = (pair.test.shard, pair.test.key, pair.train.shard, pair.train.key)
        writer.writerow(map(csv_cell, [kind, pair.bits or 0, *names]))
    return text.getvalue().encode()
