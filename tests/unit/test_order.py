"""The order of images: once an epoch each, the same for any number of workers, resumable at any step."""

from itertools import chain, islice, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.core.worker_lanes import worker_lanes
from dpt_ray.data.loading.batches import batches
from dpt_ray.data.loading.feed import Feed, training_batches
from dpt_ray.data.loading.order import ImageOrder, Segment
from dpt_ray.data.loading.prefetch_plan import segment_sequence

COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=9).filter(any)
SEEDS = st.integers(0, 2**63 - 1)
WINDOWS = st.integers(1, 60)
WORLDS = st.permutations([1, 2, 3, 4])
"""Numbers of workers."""


@st.composite
def orders(draw, lanes=range(1, 8)) -> ImageOrder:
    """Any order: with empty shards, fewer shards than lanes and fewer images than lanes."""
    lanes = draw(st.sampled_from(lanes))
    return ImageOrder(draw(COUNTS), seed=draw(SEEDS), lanes=lanes, shuffle_window=draw(WINDOWS))


def reader(order: ImageOrder, requests: list[Segment] | None = None):
    """Return a reading function whose rows are the images' numbers, counted over all shards."""
    first = np.cumsum([0, *order.counts])

    def read(segment: Segment):
        assert 0 <= segment.start < segment.stop <= order.counts[segment.shard]
        if requests is not None:
            requests.append(segment)
        numbers = first[segment.shard] + np.arange(segment.start, segment.stop)
        images = np.broadcast_to(numbers[:, None, None, None] % 256, (len(segment), 1, 1, 1)).astype(np.uint8)
        first_block = len(segment) // 3  # two blocks, if it has enough rows
        for block in (slice(first_block), slice(first_block, None)):
            yield {"image": images[block], "label": numbers[block]}

    return read


def steps(order: ImageOrder, lanes, rows: int, first_step: int, count: int) -> list[list[int]]:
    source_batches = batches(order, reader(order), lanes=lanes, rows_per_lane=rows, first_step=first_step)
    return [batch["label"].tolist() for batch in islice(source_batches, count)]


def sequence(order: ImageOrder, epochs: int) -> np.ndarray:
    """Return the images at positions 0, 1, 2, ... of the endless sequence, one row an epoch."""
    length = -(-epochs * order.num_images // order.lanes)
    rows = steps(order, range(order.lanes), 1, 0, length)
    return np.reshape(rows, -1)[: epochs * order.num_images].reshape(epochs, -1)


@given(order=orders())
def test_every_image_comes_exactly_once_an_epoch(order):
    for epoch in sequence(order, 4):
        assert sorted(epoch) == list(range(order.num_images))


@given(order=orders(), rows=st.integers(1, 5), first_step=st.integers(0, 40))
def test_resuming_at_a_step_equals_the_straight_run(order, rows, first_step):
    lanes = range(order.lanes)
    straight = steps(order, lanes, rows, 0, first_step + 4)
    assert steps(order, lanes, rows, first_step, 4) == straight[first_step:]


@given(order=orders(lanes=[4, 5, 8]), rows=st.integers(1, 5), first_step=st.integers(0, 9))
def test_images_of_a_step_are_the_same_for_any_number_of_workers(order, rows, first_step):
    alone = steps(order, range(order.lanes), rows, first_step, 6)
    for workers in range(2, order.lanes + 1):
        split = [steps(order, worker_lanes(order.lanes, rank, workers), rows, first_step, 6) for rank in range(workers)]
        assert [list(chain(*step)) for step in zip(*split, strict=True)] == alone


@given(order=orders())
def test_a_lane_reads_each_of_its_rows_once_an_epoch_and_each_shard_in_order(order):
    for epoch in range(3):
        rows = []
        for lane in range(order.lanes):
            first, share = order.lane_share(lane, epoch)
            segments, yielded = [], 0
            windows = order.windows(lane, first)
            while yielded < share:
                window, skip = next(windows)
                assert skip == 0
                assert len(window.permutation) <= order.lane_window
                assert sorted(window.permutation) == list(range(sum(map(len, window.segments))))
                yielded += len(window.permutation)
                segments += window.segments
            assert yielded == share
            for before, after in pairwise(segments):
                assert after.start == (before.stop if after.shard == before.shard else 0)
            rows += [(segment.shard, row) for segment in segments for row in range(segment.start, segment.stop)]
        assert sorted(rows) == [(shard, row) for shard, count in enumerate(order.counts) for row in range(count)]


@given(order=orders(), lane=st.integers(0, 6), epochs=st.integers(1, 3))
def test_reading_runs_no_further_ahead_than_the_window(order, lane, epochs):
    lane %= order.lanes
    requests: list[Segment] = []
    stream = batches(order, reader(order, requests), lanes=[lane], rows_per_lane=1, first_step=0)
    first, share = order.lane_share(lane, epochs - 1)
    for taken in range(1, first + share + 1):
        next(stream)
        assert sum(map(len, requests)) < taken + order.lane_window
    assert sum(map(len, requests)) == first + share


@given(order=orders(lanes=[2, 3, 4, 7]), rows=st.integers(1, 5), first_step=st.integers(0, 20))
def test_the_segment_sequence_is_what_a_worker_requests(order, rows, first_step):
    for lanes in (range(order.lanes), worker_lanes(order.lanes, 1, 2)):
        requests: list[Segment] = []
        stream = batches(order, reader(order, requests), lanes=lanes, rows_per_lane=rows, first_step=first_step)
        for _ in range(8):
            next(stream)
        planned = segment_sequence(order, lanes, rows, first_step)
        assert list(islice(planned, len(requests))) == requests


@pytest.mark.parametrize(("counts", "window"), [([40], 40), ([5] * 8, 1), ([7, 0, 33], 16)])
def test_epochs_and_seeds_differ_in_order(counts, window):
    order = ImageOrder(counts, seed=1, lanes=2, shuffle_window=window)
    epochs = [tuple(epoch) for epoch in sequence(order, 5)]
    assert len(set(epochs)) == 5
    other = ImageOrder(counts, seed=2, lanes=2, shuffle_window=window)
    assert tuple(sequence(other, 1)[0]) != epochs[0]


def test_equal_arguments_give_equal_orders():
    first, second = (ImageOrder([9, 4, 30], seed=7, lanes=3, shuffle_window=12) for _ in range(2))
    assert (sequence(first, 3) == sequence(second, 3)).all()


def test_a_window_over_everything_shuffles_evenly():
    """The place of image 0 in a 6-image epoch is uniform: chi-squared with 5 degrees of freedom, p = 1e-4."""
    order = ImageOrder([6], seed=3, lanes=1, shuffle_window=6)
    places = (sequence(order, 3000) == 0).argmax(1)
    expected = 3000 / 6
    assert ((np.bincount(places, minlength=6) - expected) ** 2 / expected).sum() < 25.7


@given(order=orders(), lane=st.integers(0, 6), epoch=st.integers(0, 9))
def test_lane_shares_are_the_positions_assigned_in_turn(order, lane, epoch):
    lane %= order.lanes
    total = order.num_images
    positions = [p for p in range((epoch + 1) * total) if p % order.lanes == lane]
    before = sum(p < epoch * total for p in positions)
    assert order.lane_share(lane, epoch) == (before, len(positions) - before)


def test_a_source_without_images_is_refused():
    with pytest.raises(ValueError, match="at least one image"):
        ImageOrder([0, 0], seed=0, lanes=2, shuffle_window=10)


@given(lanes=st.integers(1, 24), workers=st.integers(1, 24))
def test_workers_share_the_lanes_as_equally_as_possible(lanes, workers):
    if workers > lanes:
        with pytest.raises(ValueError, match="cannot be shared"):
            worker_lanes(lanes, 0, workers)
    else:
        shares = [worker_lanes(lanes, rank, workers) for rank in range(workers)]
        assert [lane for share in shares for lane in share] == list(range(lanes))
        assert {len(share) for share in shares} <= {lanes // workers, -(-lanes // workers)}


def feeds() -> dict[str, Feed]:
    small = ImageOrder([3, 0, 2], seed=11, lanes=4, shuffle_window=8)
    large = ImageOrder([13, 5, 9], seed=12, lanes=4, shuffle_window=12)
    return {"labelled": Feed(small, reader(small), 4), "unlabelled": Feed(large, reader(large), 12)}


def drawn(lanes, first_step: int, count: int) -> list[dict[str, tuple[torch.Tensor, ...]]]:
    """Return images, labels and some random draws of each source and step."""
    stream = training_batches(feeds(), lanes=lanes, seed=5, first_step=first_step)
    return [
        {
            name: (
                batch.images,
                batch.labels,
                batch.random.uniform(2),
                batch.random.normal(),
                batch.random.integers(1000, 1),
            )
            for name, batch in sources.items()
        }
        for sources in islice(stream, count)
    ]


def test_rows_of_a_step_draw_the_same_random_numbers_for_1_to_4_workers():
    alone = drawn(range(4), 0, 5)
    for workers in (2, 3, 4):
        split = [drawn(worker_lanes(4, rank, workers), 0, 5) for rank in range(workers)]
        for step, sources in enumerate(alone):
            for name, values in sources.items():
                joined = [torch.cat(rows) for rows in zip(*(worker[step][name] for worker in split), strict=True)]
                assert all(torch.equal(a, b) for a, b in zip(joined, values, strict=True))


def test_a_resumed_step_draws_the_random_numbers_of_the_straight_run():
    straight, resumed = drawn(range(4), 0, 6), drawn(range(4), 4, 2)
    for before, after in zip(straight[4:], resumed, strict=True):
        for name in before:
            assert all(torch.equal(a, b) for a, b in zip(before[name], after[name], strict=True))


def test_sources_steps_lanes_and_seeds_draw_different_random_numbers():
    first, second = drawn(range(4), 0, 2)
    uniform = [first["labelled"][2], first["unlabelled"][2][:4], second["labelled"][2]]
    rows = torch.cat(uniform).flatten().tolist()
    assert len(set(rows)) == len(rows)
    other = next(training_batches(feeds(), lanes=range(4), seed=6))
    assert not torch.equal(other["labelled"].random.uniform(2), first["labelled"][2])


def test_batches_hold_the_rows_of_their_lanes_and_sources():
    batch = next(training_batches(feeds(), lanes=worker_lanes(4, 1, 2), seed=5))
    assert batch["labelled"].images.shape == (2, 1, 1, 1)
    assert batch["unlabelled"].labels.shape == (6,)
    assert len(batch["unlabelled"].random) == 6


@given(order=orders(lanes=[4, 8]), rows=st.integers(1, 5), before=st.integers(0, 9), worlds=WORLDS)
def test_a_run_goes_on_with_another_number_of_workers_where_it_stopped(order, rows, before, worlds):
    def images(world: int, first: int, count: int) -> list[list[int]]:
        ranks = [steps(order, worker_lanes(order.lanes, rank, world), rows, first, count) for rank in range(world)]
        return [list(chain(*step)) for step in zip(*ranks, strict=True)]

    straight = images(1, 0, before + 4)
    assert images(worlds[0], 0, before) + images(worlds[1], before, 4) == straight
