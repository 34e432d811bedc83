"""Which images the scales of balanced labels are found on, and what is told of them."""

import numpy as np
import pytest
import torch

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.data.shards.sidecars import encode_sidecar, sidecar_name
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING
from dpt_ray.data.storage import stores
from dpt_ray.pipeline.artifacts.predictions import SIDECARS
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.execution import balancing_groups, shard_groups
from dpt_ray.pipeline.execution.step import StepContext
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


def sample(predictions: Artifact, monkeypatch) -> np.ndarray:
    """The probabilities from which the scales are found."""
    found = []
    monkeypatch.setattr(balancing_groups, "class_log_scales", lambda rows, shares, sharpness: found.append(rows))
    context = StepContext("memory://made", {}, ClusterConfig(), "test", TOLERATE_NOTHING)
    balancing_groups.balance_classes(context, predictions, torch.ones(CLASSES), 1.0)
    return found[0].numpy()


def test_all_images_are_taken_where_they_are_few(in_class_order, monkeypatch):
    assert len(sample(in_class_order, monkeypatch)) == SHARD * (SHARDS - 1)


def test_a_sample_has_all_classes_whatever_the_order_of_images(in_class_order, monkeypatch):
    monkeypatch.setattr(balancing_groups, "SAMPLED_NUMBERS", SHARD * SHARDS * CLASSES // 10)  # every tenth image
    taken = sample(in_class_order, monkeypatch)
    assert 200 < len(taken) < 400
    counts = taken.sum(0)
    assert (counts > 10).all()
    assert (counts < 60).all()


def test_many_classes_get_scales_from_so_many_images_a_class_in_parts(in_class_order, monkeypatch):
    """The same scales, whether the driver holds the sample or workers sum over it."""
    context = StepContext("memory://made", {}, ClusterConfig(), "test", TOLERATE_NOTHING)
    shares = torch.linspace(1, 2, CLASSES)
    held = balancing_groups.balance_classes(context, in_class_order, shares, 1.0)
    monkeypatch.setattr(balancing_groups, "MOST_HELD_CLASSES", 1)
    monkeypatch.setattr(balancing_groups, "IMAGES_PER_CLASS", 10**6)
    streamed = balancing_groups.balance_classes(context, in_class_order, shares, 1.0)
    assert held.converged
    assert streamed.converged
    torch.testing.assert_close(streamed.log - streamed.log.mean(), held.log - held.log.mean(), rtol=0, atol=0.02)
    monkeypatch.undo()
    assert balancing_groups.sample_stride(10**8, 21_000) == 10**8 // (16 * 21_000)
    assert balancing_groups.sample_stride(10**6, 1000) == 60  # 16,777 images, as ever


@pytest.mark.parametrize("most", [4, 2, 1])
def test_a_pass_over_the_sample_is_few_files_and_the_same_sums(in_class_order, monkeypatch, most):
    monkeypatch.setattr(balancing_groups, "MOST_DUAL_PARTS", most)
    monkeypatch.setattr(balancing_groups, "MOST_HELD_CLASSES", 1)
    monkeypatch.setattr(balancing_groups, "IMAGES_PER_CLASS", 10**6)
    monkeypatch.setattr(balancing_groups, "shard_groups", lambda counts: shard_groups.shard_groups(counts, most=4))
    monkeypatch.setattr(shard_groups, "LEAST_SHARDS", 1)
    units = []

    def make(worker_class, settings, listed, context, images):
        worker = worker_class(**settings)
        for unit in listed:
            stores.write_bytes(worker.output_url(unit), worker.make(unit))
        if worker_class is balancing_groups._DualWorker:
            units.append(listed)
            counted = sum(worker.facts(u, stores.read_bytes(worker.output_url(u)))["images"] for u in listed)
            assert counted == SHARD * (SHARDS - 1)
        return [worker.output_url(unit) for unit in listed]

    monkeypatch.setattr(balancing_groups, "make_files", make)
    context = StepContext(f"memory://made-{most}", {}, ClusterConfig(), "test", TOLERATE_NOTHING)
    scales = balancing_groups.balance_classes(context, in_class_order, torch.linspace(1, 2, CLASSES), 1.0)
    assert scales.converged
    assert {len(listed) for listed in units} == {most}
    assert [start for part in units[0] for start in part.starts] == list(range(SHARDS))


def test_the_largest_miss_is_relative_to_the_wanted_share():
    assert balanced_labels.largest_miss([60, 20, 20], [2.0, 1.0, 1.0]) == pytest.approx(0.2)
    assert balanced_labels.largest_miss([0, 50, 50], [1.0, 1.0, 1.0]) == pytest.approx(1.0)
