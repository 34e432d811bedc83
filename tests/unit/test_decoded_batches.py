"""Batches of a shard that threads decode ahead are those that are decoded one after another."""

import threading

import numpy as np
import pytest

from dpt_ray.data.images.decoding import ImageForm, encode_png
from dpt_ray.data.loading.decoded_batches import decoded_batches
from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.samples import Sample
from dpt_ray.errors import UserError

FORM = ImageForm(8, 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (23, 3, 8, 8), dtype=np.uint8)
SHARD = ShardInfo("a.tar", 1, "0", len(PIXELS))


def samples(broken=None):
    return [
        Sample(f"{row}", {"png": b"no picture" if row == broken else encode_png(image)})
        for row, image in enumerate(PIXELS)
    ]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("batch", [1, 5, 23, 100])
def test_batches_hold_all_images_in_order(device, batch):
    found = list(decoded_batches(samples(), FORM, SHARD, batch, device))
    assert [len(together) for together, _ in found[:-1]] == [batch] * (len(found) - 1)
    assert [sample.key for together, _ in found for sample in together] == [f"{row}" for row in range(len(PIXELS))]
    np.testing.assert_array_equal(np.concatenate([images for _, images in found]), PIXELS)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_an_image_that_cannot_be_read_ends_the_iteration_and_leaves_no_thread(device):
    before = threading.active_count()
    with pytest.raises(UserError, match="sample '17'"):
        list(decoded_batches(samples(broken=17), FORM, SHARD, 4, device))
    assert threading.active_count() == before


def test_threads_end_with_an_iteration_that_is_abandoned():
    before = threading.active_count()
    batches = decoded_batches(samples(), FORM, SHARD, 2, "cuda")
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_a_shard_without_samples_has_no_batches():
    assert list(decoded_batches([], FORM, SHARD, 4, "cuda")) == []
