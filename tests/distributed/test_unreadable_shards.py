"""A shard that vanished or changed after it was indexed: its place is taken by others, and it is listed."""

import itertools
import pickle
from collections import Counter
from pathlib import Path

import pytest
from numbered_shards import numbered_image, write_numbered_shards

from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.loading.batches import batches
from dpt_ray.data.loading.order import ImageOrder, Segment
from dpt_ray.data.loading.read_rows import new_arrays
from dpt_ray.data.loading.segments import read_segment
from dpt_ray.data.shards.skipped import SkipPolicy
from dpt_ray.distributed.failures import user_error
from dpt_ray.distributed.reading import open_source
from dpt_ray.distributed.skipped_log import SKIPPED_FILE, open_skipped_log, read_skipped_log
from dpt_ray.errors import StoreFailureError, UserError

COUNTS = [10, 3, 17, 6]
KEEP_ALL, KEEP_NOTHING = 2**30, 0
HALF = SkipPolicy(0.5)
ALLOCATE = new_arrays(ImageForm(8, 1), 100)


def _epoch(source, keep: int, on_unreadable) -> list[bytes]:
    order = ImageOrder(source.counts, seed=5, lanes=4, shuffle_window=8)
    reader = open_source(source, keep, on_unreadable=on_unreadable)
    read = reader.open(order=order, lanes=range(4), rows_per_lane=3, first_step=0)
    seen = itertools.islice(batches(order, read, lanes=range(4), rows_per_lane=3, first_step=0), 3)
    return [image.tobytes() for batch in seen for image in batch["image"]]


@pytest.fixture
def source(tmp_path):
    """A source of which the second shard has vanished and the last one has changed."""
    source = write_numbered_shards(str(tmp_path / "shards"), COUNTS)
    Path(source.shards[1].info.url).unlink()
    changed = Path(source.shards[3].info.url)
    changed.write_bytes(changed.read_bytes()[:-512])
    return source


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_kept_and_streamed_sources_go_on_alike_and_list_the_same(source, tmp_path):
    seen = {}
    for name, keep in (("kept", KEEP_ALL), ("streamed", KEEP_NOTHING)):
        folder = str(tmp_path / name)
        seen[name] = _epoch(source, keep, open_skipped_log(folder, HALF, source.num_images))
        listed = {(entry.where, entry.images) for entry in read_skipped_log(folder)}
        assert listed == {(source.shards[n].info.url, COUNTS[n]) for n in (1, 3)}
        assert {entry.reason.split(" (")[0].split(";")[0] for entry in read_skipped_log(folder)} >= {"does not exist"}
    assert seen["kept"] == seen["streamed"]
    found = Counter(seen["kept"])
    readable = [numbered_image(n).tobytes() for n in (*range(10), *range(13, 30))]
    # The epoch has as many images as ever; those of the whole shards all come, some a second time.
    assert sum(found.values()) == sum(COUNTS)
    assert found.keys() == set(readable)


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("keep", [KEEP_ALL, KEEP_NOTHING])
def test_past_the_share_it_fails_with_the_list(source, tmp_path, keep):
    note = open_skipped_log(str(tmp_path), SkipPolicy(0.17), source.num_images)  # six images: one of the two
    with pytest.raises(Exception, match="images cannot be used") as caught:
        _epoch(source, keep, note)
    complaint = str(user_error(caught.value))
    assert complaint.startswith("data.max_skipped_share: 9 of 36 images cannot be used")
    assert "00001.tar: does not exist" in complaint
    assert "00003.tar: holds" in complaint
    # What made it fail was not replaced, so it is not kept on the list: once mended it counts no more.
    assert len(read_skipped_log(str(tmp_path))) == 1


def test_nothing_is_tolerated_by_default(source, tmp_path):
    assert open_skipped_log(str(tmp_path), SkipPolicy(), source.num_images) is None
    assert not (tmp_path / SKIPPED_FILE).exists()
    with pytest.raises(UserError, match=r"00001\.tar: does not exist"):
        next(read_segment(source, Segment(1, 0, 3), ALLOCATE, None))


def test_a_store_that_does_not_answer_is_not_taken_for_damage(source, monkeypatch):
    def fail(url, **_):
        raise StoreFailureError("the object store keeps failing", where=url)

    monkeypatch.setattr("dpt_ray.data.loading.shard_samples.fetch_shard", fail)
    listed_shards = []
    with pytest.raises(StoreFailureError, match="keeps failing"):
        next(read_segment(source, Segment(0, 0, 3), ALLOCATE, listed_shards.append))
    assert listed_shards == []
    error = StoreFailureError("a", where="b", fix="c")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (StoreFailureError, str(error))


def test_a_source_of_which_nothing_can_be_read_ends(source):
    for shard in source.shards:
        Path(shard.info.url).unlink(missing_ok=True)
    listed_shards = []
    with pytest.raises(UserError, match="none of 4 shards can be read"):
        next(read_segment(source, Segment(2, 0, 3), ALLOCATE, listed_shards.append))
    assert [entry.where for entry in listed_shards] == [source.shards[n].info.url for n in (2, 3, 0, 1)]
