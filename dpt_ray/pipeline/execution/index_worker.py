"""The indexing of one shard: its images are decoded, and sidecars with keys, labels and layout are written."""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.images.perceptual_hash import empty_hashes, is_comparable
from dpt_ray.data.images.white_level import Levels
from dpt_ray.data.importing.other_formats import FIRST_BYTES, recognise
from dpt_ray.data.loading.shard_samples import try_samples
from dpt_ray.data.loading.source import LABEL
from dpt_ray.data.shards.label_counts import encode_counts
from dpt_ray.data.shards.salvage import read_content
from dpt_ray.data.shards.samples import Sample, fetch_shard, sha256
from dpt_ray.data.shards.sidecars import encode_sidecar, sidecar_facts, sidecar_name
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.shards.stored_layouts import encode_layout
from dpt_ray.data.storage import stores
from dpt_ray.distributed.units import UnitWorker, UnusableUnitError
from dpt_ray.errors import StoreFailureError, UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.dataset import NO_LABEL
from dpt_ray.text import printable, shortened

_EMPTY = "is an empty shard"
KEPT_NAMES = 10
"""Largest number of ignored members whose names are stored, for each shard and for the set."""


class ListedShard(NamedTuple):
    """A shard before it is indexed: its position in the listing, and its URL."""

    number: int
    url: str


class IndexWorker(UnitWorker):
    """Checks one shard, and writes sidecars: with the keys and true labels of its usable samples, and its layout."""

    def __init__(self, folder: str, layouts: str, form: ImageForm):
        self._folder, self._layouts, self._form = folder, layouts, form

    def output_url(self, unit: ListedShard) -> str:
        return stores.join(self._folder, sidecar_name(unit.number))

    def make(self, unit: ListedShard) -> bytes:
        url = unit.url
        try:
            data = fetch_shard(url)
        except StoreFailureError:
            raise
        except UserError as error:
            raise UnusableUnitError([Skipped(url, None, error.what)]) from None
        if not data:
            raise UnusableUnitError([Skipped(url, None, _EMPTY)])
        samples, skipped, passed_over = read_content(data, url)
        if not samples and (foreign := recognise(data[:FIRST_BYTES])):
            raise UnusableUnitError([Skipped(url, None, f"is not a tar archive but {foreign[0]}; {foreign[1]}")])
        levels, hashes = Levels(), empty_hashes(len(samples))
        all_labels, unusable = try_samples(samples, self._form, url, levels, hashes.update)
        skipped += unusable.values()
        usable = [row for row in range(len(samples)) if row not in unusable]
        if not usable:
            raise UnusableUnitError(skipped or [Skipped(url, None, _EMPTY)])
        labels = [all_labels[row] for row in usable]
        # Before the sidecar of labels, whose existence says that the shard is done.
        layout = encode_layout(data, url, 0 if skipped else len(usable))
        stores.write_bytes(stores.join(self._layouts, sidecar_name(unit.number)), layout)
        return encode_sidecar(
            [samples[row].key for row in usable],
            {
                LABEL: np.array([NO_LABEL if label is None else label for label in labels], np.int64),
                **hashes.columns(usable),
            },
            facts={
                "shard_bytes": len(data),
                "shard_sha256": sha256(data),
                "samples": len(usable),
                "without_perceptual_hash": int((~is_comparable(hashes.perceptual[usable])).sum()),
                "rows_out": sorted(unusable),
                "deep": [levels.images, levels.largest],
                "passed_over": [
                    len(passed_over),
                    [[shortened(printable(n)), why] for n, why in passed_over[:KEPT_NAMES]],
                ],
                "skipped": [entry.to_json() for entry in skipped],
                "largest_id": _place_of_largest(labels, [samples[row].key for row in usable]),
                "class_counts": {str(k): v for k, v in Counter(labels).items() if k is not None},
                "classes_out": sorted(_classes_of((samples[row] for row in unusable), url)),
            },
        )

    def facts(self, unit: ListedShard, content: bytes) -> JsonObject:
        facts = sidecar_facts(content, self.output_url(unit))
        counts = facts["class_counts"]
        assert isinstance(counts, dict)
        return {"images": 1, **facts, "class_counts": encode_counts({int(k): int(str(v)) for k, v in counts.items()})}


def _classes_of(samples: Iterable[Sample], where: str) -> set[int]:
    """Return the class ids of samples; unreadable ones are ignored."""
    found = set()
    for sample in samples:
        with suppress(UserError):
            if (label := sample.label(where)) is not None:
                found.add(label)
    return found


def _place_of_largest(labels: list[int | None], keys: list[str]) -> tuple[int, str] | None:
    """Return the largest class id of a shard and the key of its first sample; None without labels."""
    known = [(label, -row) for row, label in enumerate(labels) if label is not None]
    return (max(known)[0], keys[-max(known)[1]]) if known else None
