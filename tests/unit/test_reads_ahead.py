"""Reads that serve several segments: nothing is missed, and a worker finds each segment when it asks for it."""

from collections import Counter
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.data.loading.order import ImageOrder, Segment
from dpt_ray.data.loading.prefetch_plan import PlannedRead, deal, plan_reads, segment_sequence

COUNTS = st.lists(st.integers(1, 40), min_size=1, max_size=8)


@given(
    counts=COUNTS,
    lanes=st.integers(1, 5),
    window=st.integers(1, 60),
    longest=st.integers(1, 100),
    first_step=st.integers(0, 50),
)
def test_whatever_is_asked_for_is_there_in_time(counts, lanes, window, longest, first_step):
    order = ImageOrder(counts, seed=1, lanes=lanes, shuffle_window=window)
    asked = islice(segment_sequence(order, range(lanes), 3, first_step), 300)
    reads = plan_reads(segment_sequence(order, range(lanes), 3, first_step), longest)
    held: Counter[Segment] = Counter()
    for segment in asked:
        if not held[segment]:
            held.update(next(reads).serves)
        assert held[segment] > 0
        held[segment] -= 1


@given(counts=COUNTS, lanes=st.integers(1, 5), window=st.integers(1, 60), longest=st.integers(1, 100))
def test_a_read_is_what_it_serves_and_no_longer_than_allowed(counts, lanes, window, longest):
    order = ImageOrder(counts, seed=2, lanes=lanes, shuffle_window=window)
    asked = list(islice(segment_sequence(order, range(lanes), 2, 0), 100))
    reads = list(plan_reads(iter(asked), longest))
    assert Counter(segment for read in reads for segment in read.serves) == Counter(asked)
    for read in reads:
        rows = [(s.shard, row) for s in read.serves for row in range(s.start, s.stop)]
        assert rows == [(read.segment.shard, row) for row in range(read.segment.start, read.segment.stop)]
        assert len(read.segment) <= max(longest, len(read.serves[0]))


def test_a_shard_that_windows_cut_is_fetched_once():
    order = ImageOrder([1000] * 4, seed=0, lanes=1, shuffle_window=300)
    reads = list(islice(plan_reads(segment_sequence(order, [0], 10, 0), longest=1000), 4))
    assert sorted((read.segment.shard, len(read.segment)) for read in reads) == [(n, 1000) for n in range(4)]


@given(lengths=st.lists(st.integers(1, 50), max_size=40), hands=st.integers(1, 6), longest=st.integers(1, 60))
def test_dealt_reads_lose_nothing_and_no_hand_gets_much_more_than_another(lengths, hands, longest):
    reads = [
        PlannedRead(segment, (segment,)) for segment in (Segment(n, 5, 5 + long) for n, long in enumerate(lengths))
    ]
    dealt = list(deal(reads, hands, longest))
    assert [read for read, _ in dealt] == reads
    rows = [0] * hands
    for read, parts in dealt:
        assert [row for _, part in parts for row in range(part.start, part.stop)] == list(range(5, read.segment.stop))
        assert all(part.shard == read.segment.shard and len(part) <= longest for _, part in parts)
        for hand, part in parts:
            rows[hand] += len(part)
    assert max(rows) - min(rows) <= min(longest, max(lengths, default=0))
