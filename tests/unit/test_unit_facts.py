"""What the driver holds of each unit of a step is small, whatever the number of classes."""

import tracemalloc

import numpy as np
import pytest

from dpt_ray.data.shards.label_counts import decode_counts, encode_counts, encode_label_counts
from dpt_ray.distributed.inference import BLOCKS_PER_PROCESS, MOST_BLOCKS, num_blocks
from dpt_ray.distributed.unit_facts import UnitsFacts, packed_facts
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.predictions import PredictedShard, summarise_predictions
from dpt_ray.pipeline.artifacts.shards import WrittenShards
from dpt_ray.pipeline.steps.index_dataset import _counted

IMAGES, SHARDS = 1000, 200
MOST_HELD = 3000
"""Most bytes that the driver holds of a shard of 1,000 images: 0.3 GB of 100,000 shards."""


def predicted(number: int, classes: int) -> JsonObject:
    labels = np.random.default_rng(number).integers(0, classes, IMAGES)
    return {
        "url": f"s3://a-bucket/runs/predictions/0123456789abcdef/predictions/{number:05d}.parquet",
        "bytes": 40_000 + number,
        "sha256": f"{number:064x}",
        "images": IMAGES,
        "predicted": encode_label_counts(labels),
        "confidence_sum": 0.5 * IMAGES,
    }


@pytest.mark.parametrize("classes", [10, 1000, 21_000])
def test_facts_of_many_shards_take_little_memory(classes):
    predicted(0, classes)
    tracemalloc.start()
    try:
        files = UnitsFacts([packed_facts(predicted(number, classes)) for number in range(SHARDS)])
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        facts = summarise_predictions(map(PredictedShard.from_json, files), IMAGES * SHARDS, classes)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held <= MOST_HELD * SHARDS
    assert most - held <= 1200 * SHARDS + 64 * classes + 2**20  # entries of files, sums of classes, one shard
    assert sum(facts.predicted_per_class) == IMAGES * SHARDS
    assert facts.mean_confidence == pytest.approx(0.5)
    assert [file.sha256 for file in facts.files] == [f"{number:064x}" for number in range(SHARDS)]


def test_counts_of_classes_come_back():
    counts = {7: 3, 20_999: 1, 0: 12}
    classes, images = decode_counts(encode_counts(counts))
    assert dict(zip(classes.tolist(), images.tolist(), strict=True)) == counts
    assert [side.tolist() for side in decode_counts(encode_label_counts(np.array([5, 2, 5])))] == [[2, 5], [1, 2]]
    assert [len(side) for side in decode_counts(encode_counts({}))] == [0, 0]
    assert [len(side) for side in decode_counts("")] == [0, 0]


def test_facts_are_read_in_the_order_of_units_and_as_often_as_wanted():
    files = UnitsFacts([packed_facts({"images": number}) for number in range(5)])
    assert [file["images"] for file in files] == [file["images"] for file in files] == [0, 1, 2, 3, 4]
    assert files[3] == {"images": 3}
    assert len(files) == 5


def test_counts_of_indexed_and_written_shards_are_added_up_and_not_kept():
    first, last = encode_counts({0: 1, 20_999: 2}), encode_label_counts(np.array([0]))
    indexed = [{"images": 1, "samples": 3, "class_counts": first}, {"images": 0}]
    shards, counts = _counted([*indexed, {"images": 1, "samples": 1, "class_counts": last}])
    assert counts == {0: 2, 20_999: 2}
    assert [shard.samples for shard in shards] == [3, None, 1]
    assert not any(shard.class_counts for shard in shards)
    reports = [
        {"images": 2, "classes": {"4": 2}, "refused_classes": [7], "sizes": [[5, 6, 2]]},
        {"images": 1, "classes": {"4": 1}, "refused_classes": [], "sizes": [[5, 6, 1]]},
    ]
    written = WrittenShards.add_up(reports)
    assert (written.classes, written.refused_classes, written.sizes) == ({4: 3}, {7}, {(5, 6): 3})
    assert [record.images for record in written.records] == [2, 1]
    assert not any(record.classes or record.sizes for record in written.records)


@pytest.mark.parametrize(
    ("units", "processes", "blocks"),
    [(1, 8, 1), (4096, 8, 4096), (100_000, 8, MOST_BLOCKS), (100_000, 1000, 1000 * BLOCKS_PER_PROCESS)],
)
def test_the_driver_starts_few_tasks_and_every_process_has_several(units, processes, blocks):
    assert num_blocks(units, processes) == blocks
