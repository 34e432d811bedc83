"""Hundreds of damaged shards: no crash, no hang, and no sample that goes missing without being listed."""

import random
import re
import signal
import tarfile
import time
from io import BytesIO

import numpy as np
import pytest

from dpt_ray.data.images.decoding import ImageForm, encode_png
from dpt_ray.data.loading.shard_samples import read_shard_samples
from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.salvage import reliable_samples
from dpt_ray.data.shards.samples import Sample, build_shard, sha256
from dpt_ray.data.shards.skipped import Skipped, read_skipped
from dpt_ray.data.storage import stores
from dpt_ray.distributed.units import UnusableUnitError
from dpt_ray.errors import UserError
from dpt_ray.pipeline.execution.index_worker import IndexWorker, ListedShard

BLOCK = 512
FORM = ImageForm(16, 3)
MUTATIONS = 400


def _picture(number: int) -> bytes:
    return encode_png(np.random.default_rng(number).integers(0, 256, (3, 16, 16), dtype=np.uint8))


SAMPLES = [Sample(f"image-{n:02d}", {"cls": str(n % 3).encode(), "png": _picture(n)}) for n in range(12)]
SHARD = build_shard(SAMPLES)
with tarfile.open(fileobj=BytesIO(SHARD)) as _archive:
    MEMBERS = [(m.name, m.offset, m.offset_data + -(-m.size // BLOCK) * BLOCK) for m in _archive.getmembers()]
END = MEMBERS[-1][2]


def flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(END)] ^= 1 << rng.randrange(8)


def damage_header(data: bytearray, rng: random.Random) -> None:
    data[rng.choice(MEMBERS)[1] + rng.randrange(BLOCK)] ^= 1 << rng.randrange(8)


def truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(END + BLOCK) :]


def cut_at_member(data: bytearray, rng: random.Random) -> None:
    del data[rng.choice(MEMBERS)[1] :]


def overwrite(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(END)
    stop = min(END, start + rng.randint(1, 4000))
    data[start:stop] = rng.randbytes(stop - start)


def zero(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(END // BLOCK) * BLOCK
    stop = min(END, start + BLOCK * rng.randint(1, 6))
    data[start:stop] = bytes(stop - start)


def lose_bytes(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(END - BLOCK)
    del data[start : start + rng.randint(1, BLOCK - 1)]


def add_bytes(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(END)
    data[start:start] = rng.randbytes(rng.randint(1, BLOCK - 1))


DAMAGES = [flip_bits, damage_header, truncate, cut_at_member, overwrite, zero, lose_bytes, add_bytes]


def mutated(number: int) -> bytes:
    rng = random.Random(number)
    data = bytearray(SHARD)
    for _ in range(rng.choice([1, 1, 2])):
        DAMAGES[number % len(DAMAGES)](data, rng) if len(data) == len(SHARD) else None
    return bytes(data)


def _is_listed(key: str, listed: list[Skipped]) -> bool:
    """Whether a sample is listed by its key, or as part of the shard that could not be read."""
    place = [(start, stop) for name, start, stop in MEMBERS if name.startswith(key + ".")]
    for entry in listed:
        if entry.key == key or "the member" in entry.reason:  # a name that no list could hold
            return True
        if entry.key is None:
            numbers = [int(number) for number in re.findall(r"\d+", entry.reason)]
            first, last = (numbers[0], numbers[1]) if len(numbers) == 2 else (numbers[0] if numbers else 0, len(SHARD))
            # Bytes that were lost or added shift what follows by less than a block.
            if any(first - BLOCK < stop and start < last + BLOCK for start, stop in place):
                return True
    return False


@pytest.fixture
def no_hang():
    """A damaged shard is read in far less than these seconds."""
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.mark.usefixtures("no_hang")
def test_no_mutation_loses_a_sample_without_listing_it(tmp_path):
    url = str(tmp_path / "00000.tar")
    worker = IndexWorker(str(tmp_path / "labels"), str(tmp_path / "layouts"), FORM)
    unit = ListedShard(0, url)
    used_whole = listed_some = 0
    for number in range(MUTATIONS):
        data = mutated(number)
        stores.write_bytes(url, data)
        try:
            facts = worker.facts(unit, worker.make(unit))
            listed = read_skipped(facts)
            found, _ = reliable_samples(data, url)
            used = [sample for row, sample in enumerate(found) if row not in facts["rows_out"]]
            assert len(used) == facts["samples"]
        except UnusableUnitError as error:
            listed, used = error.skipped, []
        keys = [sample.key for sample in used]
        assert len(set(keys)) == len(keys), number
        for sample in SAMPLES:
            if sample.key in keys:  # whole, with its label; a checksum alone can tell changed pixels
                kept = used[keys.index(sample.key)]
                assert kept.files.keys() == sample.files.keys(), (number, sample.key)
                assert not any(entry.key == sample.key for entry in listed), (number, sample.key)
            else:
                assert _is_listed(sample.key, listed), (number, sample.key, listed)
        used_whole += used == SAMPLES
        listed_some += bool(listed)
    assert listed_some > MUTATIONS / 2
    assert used_whole < MUTATIONS / 4


def test_an_index_catches_every_mutation(tmp_path):
    url = str(tmp_path / "00000.tar")
    info = ShardInfo(url, len(SHARD), sha256(SHARD), len(SAMPLES))
    for number in range(MUTATIONS):
        data = mutated(number)
        stores.write_bytes(url, data)
        if data == SHARD:
            assert read_shard_samples(info) == SAMPLES
        else:
            with pytest.raises(UserError, match="its index"):
                read_shard_samples(info)


def test_one_damaged_header_costs_its_sample_and_its_neighbours_only():
    name, start, stop = MEMBERS[11]  # the image of sample 5
    data = bytearray(SHARD)
    data[start + 3] ^= 1
    samples, listed = reliable_samples(bytes(data), "a.tar")
    lost = {"image-05", "image-06"}
    assert name == "image-05.png"
    assert samples == [sample for sample in SAMPLES if sample.key not in lost]
    assert {entry.key for entry in listed} == {None, *lost}
    assert f"bytes {start} to {stop} are not readable" in str(listed[0])


def test_a_shard_that_ends_early_keeps_what_is_whole_and_says_where_it_ends():
    cut = MEMBERS[10][1]  # between two samples: the last one may lack a file, for all that can be known
    samples, listed = reliable_samples(SHARD[:cut], "a.tar")
    assert samples == SAMPLES[:4]
    assert [entry.key for entry in listed] == [None, "image-04"]
    assert f"is not a complete tar archive: it ends early or is damaged from byte {cut}" in listed[0].reason


def test_noise_and_nothing_are_listed_whole():
    for data in (b"", b"\1" * 100, random.Random(0).randbytes(100_000)):
        samples, listed = reliable_samples(data, "a.tar")
        assert samples == []
        assert [entry.key for entry in listed] == [None]


def test_headers_that_lead_in_circles_do_not_hang():
    began = time.monotonic()
    for kind in (b"0", b"L", b"K", b"x", b"g", b"S"):
        data = bytearray(SHARD)
        for _, start, _ in MEMBERS:
            data[start + 124 : start + 136] = b"\xff" * 12  # minus one byte
            data[start + 156 : start + 157] = kind
            data[start + 148 : start + 156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + BLOCK])
        samples, listed = reliable_samples(bytes(data), "a.tar")
        assert all(not sample.files.get("png") for sample in samples)
        assert listed
    assert time.monotonic() - began < 30
