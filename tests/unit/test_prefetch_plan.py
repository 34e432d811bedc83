"""Merged segments serve every request in time, and are assigned evenly to executions."""

from collections import Counter
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.data.loading.order import ImageOrder, Segment
from dpt_ray.data.loading.prefetch_plan import MergedSegment, assign_segments, merge_segments, segment_sequence

COUNTS = st.lists(st.integers(1, 40), min_size=1, max_size=8)


@given(
    counts=COUNTS,
    lanes=st.integers(1, 5),
    window=st.integers(1, 60),
    most_rows=st.integers(1, 100),
    first_step=st.integers(0, 50),
)
def test_whatever_is_requested_was_read_in_time(counts, lanes, window, most_rows, first_step):
    order = ImageOrder(counts, seed=1, lanes=lanes, shuffle_window=window)
    requests = islice(segment_sequence(order, range(lanes), 3, first_step), 300)
    merged = merge_segments(segment_sequence(order, range(lanes), 3, first_step), most_rows)
    waiting: Counter[Segment] = Counter()
    for segment in requests:
        if not waiting[segment]:
            waiting.update(next(merged).requests)
        assert waiting[segment] > 0
        waiting[segment] -= 1


@given(counts=COUNTS, lanes=st.integers(1, 5), window=st.integers(1, 60), most_rows=st.integers(1, 100))
def test_a_merged_segment_is_its_requests_and_no_longer_than_allowed(counts, lanes, window, most_rows):
    order = ImageOrder(counts, seed=2, lanes=lanes, shuffle_window=window)
    requests = list(islice(segment_sequence(order, range(lanes), 2, 0), 100))
    merged = list(merge_segments(iter(requests), most_rows))
    assert Counter(segment for item in merged for segment in item.requests) == Counter(requests)
    for item in merged:
        rows = [(s.shard, row) for s in item.requests for row in range(s.start, s.stop)]
        assert rows == [(item.segment.shard, row) for row in range(item.segment.start, item.segment.stop)]
        assert len(item.segment) <= max(most_rows, len(item.requests[0]))


def test_a_shard_that_windows_split_is_fetched_once():
    order = ImageOrder([1000] * 4, seed=0, lanes=1, shuffle_window=300)
    merged = list(islice(merge_segments(segment_sequence(order, [0], 10, 0), most_rows=1000), 4))
    assert sorted((item.segment.shard, len(item.segment)) for item in merged) == [(n, 1000) for n in range(4)]


@given(lengths=st.lists(st.integers(1, 50), max_size=40), executions=st.integers(1, 6), most_rows=st.integers(1, 60))
def test_assigned_segments_are_complete_and_executions_get_about_equal_rows(lengths, executions, most_rows):
    segments = [Segment(number, 5, 5 + length) for number, length in enumerate(lengths)]
    merged = [MergedSegment(segment, (segment,)) for segment in segments]
    assigned = list(assign_segments(merged, executions, most_rows))
    assert [item for item, _ in assigned] == merged
    rows = [0] * executions
    for item, targets in assigned:
        read = [row for _, segment in targets for row in range(segment.start, segment.stop)]
        assert read == list(range(5, item.segment.stop))
        assert all(segment.shard == item.segment.shard and len(segment) <= most_rows for _, segment in targets)
        for execution, segment in targets:
            rows[execution] += len(segment)
    assert max(rows) - min(rows) <= min(most_rows, max(lengths, default=0))
