"""Which images the scales of balanced labels are found on, and what is told of them."""

from types import SimpleNamespace

import numpy as np
import pytest

from dpt_ray.data.shards.sidecars import encode_sidecar, sidecar_name
from dpt_ray.data.storage import stores
from dpt_ray.pipeline.artifacts.predictions import SIDECARS
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.steps import balanced_labels

CLASSES, SHARD, SHARDS = 10, 1000, 4


@pytest.fixture
def in_class_order(tmp_path) -> Artifact:
    """Predictions of images that go through the classes again and again; one shard could not be read."""
    probabilities = np.eye(CLASSES, dtype=np.float16)[np.arange(SHARD) % CLASSES]
    files = []
    for number in range(SHARDS):
        keys = [f"{number}-{row}" for row in range(SHARD)]
        content = encode_sidecar(keys, {"probabilities": probabilities})
        stores.write_bytes(f"{tmp_path}/{SIDECARS}/{sidecar_name(number)}", content)
        files.append({"sha256": "", "images": SHARD})
    files[1] = {"images": 0}
    facts = {"images": SHARD * (SHARDS - 1), "predicted_per_class": [], "mean_confidence": 1.0, "files": files}
    return Artifact(str(tmp_path), {"facts": facts})


def sample(predictions: Artifact) -> np.ndarray:
    index = SimpleNamespace(num_images=SHARD * SHARDS, num_classes=CLASSES)
    return np.concatenate(list(balanced_labels._sampled(predictions, index)))


def test_all_images_are_taken_where_they_are_few(in_class_order):
    assert len(sample(in_class_order)) == SHARD * (SHARDS - 1)


def test_a_sample_has_all_classes_whatever_the_order_of_images(in_class_order, monkeypatch):
    monkeypatch.setattr(balanced_labels, "SAMPLED_NUMBERS", SHARD * SHARDS * CLASSES // 10)  # every tenth image
    taken = sample(in_class_order)
    assert 200 < len(taken) < 400
    counts = taken.sum(0)
    assert (counts > 10).all()
    assert (counts < 60).all()


def test_the_largest_miss_is_relative_to_the_wanted_share():
    assert balanced_labels.largest_miss([60, 20, 20], [2.0, 1.0, 1.0]) == pytest.approx(0.2)
    assert balanced_labels.largest_miss([0, 50, 50], [1.0, 1.0, 1.0]) == pytest.approx(1.0)
