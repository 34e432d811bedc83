"""Test images among the training images: exact duplicates are refused, near duplicates are counted and listed."""

import csv
import io
from collections.abc import Sequence

import numpy as np

from dpt_ray.config.data_section import DataConfig
from dpt_ray.data.shards.duplicates import Found, Pair, limits_for
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
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
from dpt_ray.pipeline.execution.overlap_groups import find_pairs
from dpt_ray.pipeline.execution.step import Step, StepContext
from dpt_ray.text import csv_cell

PAIRS_IN_FACTS, _PAIRS_IN_ERROR = 20, 2


class Overlap(Step[OverlapFacts]):
    """Find the test images that are also training images, exactly or nearly.

    The step compares the hashes of the index. It reads neither images nor labels. No training builds on it, so it is in
    no training's address.

    Args:
        data: the section `data`. `on_overlap` decides whether a finished comparison is accepted, so it is not part of
            the address.
        train_data: indexes the training images.
        test_data: indexes the test images.
    """

    name = "overlap"
    facts_type = OverlapFacts

    def __init__(self, data: DataConfig, train_data: Step, test_data: Step):
        self._data = data
        super().__init__("overlap of the splits", {"train_data": train_data, "test_data": test_data})

    @property
    def settings(self) -> JsonObject:
        return {"image_size": self._data.image_size}

    def plan(self) -> str:
        return "comparing test images with training images"

    def make(self, context: StepContext) -> OverlapFacts:
        train, test = (read_index(context.parents[role].url) for role in ("train_data", "test_data"))
        search = find_pairs(context, train, test, limits_for(self._data.image_size), MOST_LISTED)
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
                "test": search.test_not_compared,
            },
            listed=len(named),
            first=tuple(named[:PAIRS_IN_FACTS]),
        )

    def summary(self, facts: OverlapFacts) -> str:
        return f"{tell_exact(facts)}; {tell_near(facts)}"

    def check(self, facts: OverlapFacts, folder: str) -> None:
        """Refuse test images that are also training images, unless `data.on_overlap` is `report`.

        Raises:
            UserError: a test image has the pixels of a training image.
        """
        if not facts.exact.pairs or self._data.on_overlap == "report":
            return
        equal = [pair for pair in facts.first if pair.bits is None]
        examples = {pair.test.key: pair.train.key for pair in reversed(equal)}
        pairs = [f"test image {test!r} is training image {train!r}" for test, train in examples.items()]
        raise UserError(
            f"{tell_exact(facts)} ({', '.join(pairs[: -_PAIRS_IN_ERROR - 1 : -1])}; "
            f"all are listed in {stores.join(folder, PAIRS_FILE)})",
            where="data.test",
            fix="remove them from the training or the test images, or set data.on_overlap=report to go on with them",
        )


def _counts(found: Found) -> PairCounts:
    return PairCounts(int(found.held.sum()), found.images, found.pairs)


class _NamedPairs:
    """Reads the keys of the images of pairs. Memory holds the keys of one shard at a time."""

    def __init__(self, train: DatasetIndex, test: DatasetIndex):
        self._train, self._test = train, test
        self._test_ends = np.cumsum([shard.samples for shard in test.shards])

    def name(self, pairs: list[Pair]) -> list[ImagePair]:
        """Return the pairs with the names of their images."""
        train = self._images([(pair.shard, pair.row) for pair in pairs], self._train)
        test = self._images([self._test_place(pair.held_row) for pair in pairs], self._test)
        return [ImagePair(pair.bits, *images) for pair, *images in zip(pairs, train, test, strict=True)]

    def _test_place(self, held_row: int) -> tuple[int, int]:
        """Return the number of the shard, and the row in it, of a row of all test images."""
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
    """Return pairs as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["kind", "different_bits", "test_shard", "test_image", "train_shard", "train_image"])
    for pair in pairs:
        kind = "similar" if pair.bits is not None else "equal"
        names = (pair.test.shard, pair.test.key, pair.train.shard, pair.train.key)
        writer.writerow(map(csv_cell, [kind, pair.bits or 0, *names]))
    return text.getvalue().encode()
