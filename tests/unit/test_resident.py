"""Sources on the training device give the batches that are read from the shards; which of them lie there is stated."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.core.training.ema import Ema
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.worker_lanes import worker_lanes
from dpt_ray.data.loading.feed import Feed, training_batches
from dpt_ray.data.loading.order import ImageOrder
from dpt_ray.data.loading.resident import ResidentSource, read_nothing
from dpt_ray.distributed.device_sources import (
    ACTIVATION_SHARE,
    MIB,
    STEP_COPIES,
    DeviceMemory,
    describe,
    network_need,
    resident_names,
)

FORMS = {"uint8": (3, 4, 4), "float16": (2, 8, 2, 2)}
"""NumPy's name of a type -> the shape of an image or of the moments of a latent."""


def rows_of(count: int, kind: str) -> dict[str, np.ndarray]:
    random = np.random.default_rng(count)
    images = random.integers(0, 256, (count, *FORMS[kind])).astype(kind)
    return {
        "image": images,
        "label": random.integers(-1, 5, count),
        "confidence": random.random(count, np.float32),
        "top_classes": random.integers(0, 5, (count, 2)),
        "top_probabilities": random.random((count, 2), np.float32),
    }


def feeds(counts: dict[str, list[int]], kind: str, resident: bool, rows_per_lane: int = 2) -> dict[str, Feed]:
    found = {}
    for name, of_shards in counts.items():
        rows = rows_of(sum(of_shards), kind)
        order = ImageOrder(of_shards, seed=len(name), lanes=4, shuffle_window=8)
        starts = np.cumsum([0, *of_shards])

        def read(segment, rows=rows, starts=starts):
            first, stop = starts[segment.shard] + segment.start, starts[segment.shard] + segment.stop
            middle = (first + stop) // 2  # two blocks
            parts = [(first, middle), (middle, stop)]
            return [{key: values[a:b] for key, values in rows.items()} for a, b in parts if b > a]

        blocks = [{key: values[a : a + 3] for key, values in rows.items()} for a in range(0, sum(of_shards), 3)]
        source = ResidentSource.filled(blocks, sum(of_shards), "cpu") if resident else None
        found[name] = Feed(order, read_nothing if resident else read, 4 * rows_per_lane, source)
    return found


def assert_equal_steps(ours, theirs, steps: int) -> None:
    for _ in range(steps):
        one, two = next(ours), next(theirs)
        assert one.keys() == two.keys()
        for name in one:
            for field in ("images", "labels", "index", "confidence", "classes", "probabilities"):
                a, b = getattr(one[name], field), getattr(two[name], field)
                assert a.dtype == b.dtype
                assert torch.equal(a, b), (name, field)
            assert torch.equal(one[name].random.uniform(3), two[name].random.uniform(3))


@given(
    kind=st.sampled_from(list(FORMS)),
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(sum),
    workers=st.sampled_from([1, 2, 4]),
    first=st.integers(0, 12),
    ahead=st.integers(0, 3),
)
def test_rows_on_the_device_are_the_batches_of_the_loader(kind, counts, workers, first, ahead):
    sources = {"labelled": counts, "unlabelled": [11, 7]}
    for rank in range(workers):
        lanes = worker_lanes(4, rank, workers)
        ours = training_batches(feeds(sources, kind, True), lanes=lanes, seed=3, first_step=first, steps_ahead=ahead)
        theirs = training_batches(feeds(sources, kind, False), lanes=lanes, seed=3, first_step=first)
        assert_equal_steps(ours, theirs, 6)


@pytest.mark.parametrize("ahead", [0, 1, 2, 9])
def test_batches_end_at_the_last_step_and_read_nothing_beyond_it(ahead):
    read: list[int] = []
    given_feeds = feeds({"images": [5, 6]}, "uint8", False)
    inner = given_feeds["images"].read

    def counting(segment):
        read.append(len(segment))
        if sum(read) > 4 * 8 + 8:  # four steps of eight images, and at most one window more
            raise AssertionError("read beyond the last step")
        return inner(segment)

    limited = {"images": Feed(given_feeds["images"].order, counting, 8)}
    steps = list(training_batches(limited, lanes=range(4), seed=3, stop_step=4, steps_ahead=ahead))
    assert len(steps) == 4
    again = training_batches(feeds({"images": [5, 6]}, "uint8", False), lanes=range(4), seed=3)
    assert_equal_steps(iter(steps), again, 4)


def test_steps_ahead_are_started_before_they_are_due():
    asked = []
    given_feeds = feeds({"images": [40]}, "uint8", False)
    inner = given_feeds["images"].read

    def noting(segment):
        asked.append(len(segment))
        return inner(segment)

    ahead = training_batches(
        {"images": Feed(given_feeds["images"].order, noting, 8)}, lanes=range(4), seed=3, steps_ahead=2
    )
    next(ahead)
    early = sum(asked)
    asked.clear()
    due = training_batches({"images": Feed(given_feeds["images"].order, noting, 8)}, lanes=range(4), seed=3)
    next(due)
    assert early >= 3 * 8 > sum(asked)


def test_a_source_that_was_read_short_is_refused():
    blocks = [rows_of(3, "uint8")]
    with pytest.raises(ValueError, match="5 images was read as 3 rows"):
        ResidentSource.filled(blocks, 5, "cpu")
    with pytest.raises(ValueError, match="2 images was read as 0 rows"):
        ResidentSource.filled(blocks, 2, "cpu")


def test_the_bytes_of_a_resident_source_are_those_of_its_rows():
    rows = rows_of(6, "uint8")
    assert ResidentSource.filled([rows], 6, "cpu").num_bytes == sum(values.nbytes for values in rows.values())


ROOM = DeviceMemory(total=1000 * MIB, free=900 * MIB)


@pytest.mark.parametrize(
    ("most", "resident"),
    [(None, ["labelled", "unlabelled"]), (200, ["labelled"]), (0, []), (5000, ["labelled", "unlabelled"])],
)
def test_the_smallest_sources_lie_on_the_device_as_far_as_they_fit(most, resident):
    sizes = {"unlabelled": 300 * MIB, "labelled": MIB, "pseudo": 301 * MIB}
    assert resident_names(sizes, ROOM, 400 * MIB, most) == resident
    line = describe(sizes, resident, ROOM, 400 * MIB)
    assert "cluster.keep_gpu_mib" in line
    assert "\n" not in line
    assert line.count("lies on the GPU") == len(resident)


def test_no_source_lies_on_a_cpu():
    assert DeviceMemory.of(torch.device("cpu")) is None
    assert resident_names({"images": 1}, None, 0, None) == []


def test_a_network_needs_its_gradient_moments_and_activations():
    model = torch.nn.Linear(10, 10, bias=False)
    state = TrainState(model, Ema(model, 0.9), torch.optim.SGD(model.parameters(), 0.1), torch.nn.Module())
    assert network_need(state, ROOM) == STEP_COPIES * 400 + int(ACTIVATION_SHARE * ROOM.total)
