"""The quick way through an archive gives what `tarfile` gives, or stands back."""

import io
import tarfile

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.data.shards.archive_samples import iter_samples
from dpt_ray.data.shards.samples import Sample, build_shard
from dpt_ray.data.shards.tar_headers import plain_members

FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=120
)
TIMES = st.integers(0, 2**31) | st.floats(0, 2**31)


def archive(format: int, *members: tuple[str, bytes, float]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as writer:
        for name, content, time in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), time
            writer.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def with_tarfile(data: bytes) -> list[tuple[str, int, int]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as reader:
        return [(m.name, m.offset_data, m.offset_data + m.size) for m in reader]


@given(format=FORMATS, members=st.lists(st.tuples(NAMES, st.binary(max_size=1500), TIMES), min_size=1, max_size=6))
def test_it_agrees_with_tarfile_or_stands_back(format, members):
    try:
        data = archive(format, *members)
    except ValueError:  # a name that this form cannot hold
        return
    found = plain_members(data)
    assert found is None or list(found) == with_tarfile(data)


def webdataset_shard(**options) -> bytes:
    buffer = io.BytesIO()
    with webdataset.TarWriter(buffer, encoder=False, **options) as writer:
        for number in range(5):
            writer.write({"__key__": f"sample-{number}", "jpg": b"x" * 700 * number, "cls": b"1"})
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        webdataset_shard(),  # with the time of now, in an extended header before every member
        webdataset_shard(mtime=0.0),
        webdataset_shard(mtime=0),
        build_shard(iter_samples(webdataset_shard(), "")),
        archive(tarfile.GNU_FORMAT, ("a/b.jpg", b"x" * 512, 7), ("a/b.cls", b"", 7)),
    ],
    ids=["webdataset", "webdataset, fixed time", "webdataset, whole seconds", "ours", "GNU tar"],
)
def test_usual_shards_go_the_quick_way(data):
    assert list(plain_members(data)) == with_tarfile(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 512,
        bytes(10240),
        archive(tarfile.PAX_FORMAT, ("ü.jpg", b"x", 0)),
        archive(tarfile.GNU_FORMAT, ("k" * 120 + ".jpg", b"x", 0)),
        archive(tarfile.USTAR_FORMAT, ("folder/" * 16 + "k.jpg", b"x", 0)),
        archive(tarfile.USTAR_FORMAT, ("a.jpg", b"x" * 900, 0))[:1024],
    ],
    ids=["nothing", "noise", "no member", "PAX name", "GNU long name", "ustar prefix", "no end"],
)
def test_all_else_is_left_to_tarfile(data):
    assert plain_members(data) is None


def test_an_archive_inside_an_archive_stays_inside():
    inner = build_shard([Sample("inner", {"jpg": b"y" * 600})])
    outer = build_shard([Sample("outer", {"tar": inner, "cls": b"0"})])
    assert list(iter_samples(outer, "")) == [Sample("outer", {"cls": b"0", "tar": inner})]


def test_an_extended_header_cannot_rename_on_the_quick_way():
    data = archive(tarfile.PAX_FORMAT, ("a.jpg", b"x", 1.5))
    forged = data.replace(b"13 mtime=1.5\n", b"13 path=b.jp\n")
    assert forged != data
    assert list(plain_members(data)) == with_tarfile(data)
    assert plain_members(forged) is None
