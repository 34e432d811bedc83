"""Any archive is read as `tarfile` reads it, in time that grows with its size alone, whatever its headers promise."""

import io
import tarfile
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.data.shards.archive_samples import iter_samples
from dpt_ray.data.shards.salvage import read_content
from dpt_ray.data.shards.tar_members import (
    MOST_EXTENDED_BYTES,
    MOST_EXTENDED_HEADERS,
    BadMemberError,
    find_members,
    read_member,
)
from dpt_ray.errors import UserError

BLOCK = 512
FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=150
)
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, b"7"])


def header(name: bytes = b"a.png", kind: bytes = b"0", size: int = 0, **fields: bytes) -> bytes:
    """Return a header with a right checksum."""
    block = bytearray(BLOCK)
    parts = {0: name, 100: b"0000644\0", 124: b"%011o\0" % size, 156: kind, 257: b"ustar\00000"}
    for place, content in {**parts, **{int(key[1:]): value for key, value in fields.items()}}.items():
        block[place : place + len(content)] = content
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % BLOCK)


def extended(kind: bytes, content: bytes) -> bytes:
    return header(b"extended", kind, len(content)) + padded(content)


def record(text: bytes) -> bytes:
    """Return a PAX record."""
    length = len(text) + 3
    while length != len(b"%d %s\n" % (length, text)):
        length = len(b"%d %s\n" % (length, text))
    return b"%d %s\n" % (length, text)


END = bytes(2 * BLOCK)
PLAIN = header(size=1) + padded(b"x")


def found(data: bytes) -> list[tuple]:
    return [(m.name, m.kind == "folder", m.kind == "file", m.start, m.stop) for m in find_members(data)]


def with_tarfile(data: bytes) -> list[tuple]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [
            (m.name, m.isdir(), m.isreg() and not m.issparse(), m.offset_data, m.offset_data + m.size) for m in archive
        ]


@given(
    FORMATS,
    st.lists(st.tuples(NAMES, KINDS, st.binary(max_size=1500), st.floats(0, 2**33)), min_size=1, max_size=5),
    st.dictionaries(st.sampled_from(["comment", "SCHILY.xattr.user.a", "mtime", "uid"]), NAMES, max_size=2),
)
def test_members_are_those_of_tarfile(form, members, further):
    buffer = io.BytesIO()
    try:
        with tarfile.open(fileobj=buffer, mode="w", format=form, pax_headers={"comment": "all"}) as archive:
            for name, kind, content, modified in members:
                info = tarfile.TarInfo(name)
                info.type, info.mtime, info.linkname = kind, modified, "elsewhere"
                info.size = len(content) if info.isreg() else 0
                info.pax_headers = dict(further) if form == tarfile.PAX_FORMAT else {}
                archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    except (ValueError, UnicodeEncodeError):  # what this form cannot hold
        return
    data = buffer.getvalue()
    assert found(data) == with_tarfile(data)


@pytest.mark.parametrize(
    "data",
    [
        extended(b"x", record(b"path=long/" + b"n" * 300)) + PLAIN,
        extended(b"x", record("path=画像.png".encode()) + record(b"size=1")) + PLAIN,
        extended(b"L", b"n" * 300 + b".png\0") + PLAIN,
        extended(b"K", b"link\0") + extended(b"L", b"first\0") + extended(b"x", record(b"path=second")) + PLAIN,
        extended(b"g", record(b"comment=1")) + extended(b"x", record(b"mtime=1.5")) + PLAIN,
        header(b"folder/", b"\0") + PLAIN,
        header(b"folder/", b"5") + PLAIN,
        header(b"k.png", size=1, _345=b"in/folders") + padded(b"x") + PLAIN,
        header(size=0, _124=b"\x80" + bytes(10) + b"\1") + padded(b"x") + PLAIN,
        header(size=0, _124=b" 1 \0") + padded(b"x") + PLAIN,
        extended(b"x", record(b"GNU.sparse.size=5")) + PLAIN,
    ],
)
def test_forms_that_writers_use_are_read_as_by_tarfile(data):
    assert [entry[:2] for entry in found(data + END)] == [entry[:2] for entry in with_tarfile(data + END)]
    sparse = b"sparse" in data
    assert all(is_file or is_folder or sparse for _, is_folder, is_file, *_ in found(data + END))


@pytest.mark.parametrize("kind", [b"x", b"X", b"g", b"L", b"K"])
def test_chains_of_extended_headers_are_refused_in_one_line(kind):
    content = record(b"comment=1") if kind in (b"x", b"X", b"g") else b"name.png\0"
    few = extended(kind, content) * MOST_EXTENDED_HEADERS + PLAIN + END
    assert read_member(few, 0).kind == "file"
    for count in (MOST_EXTENDED_HEADERS + 1, 1500):
        data = PLAIN + extended(kind, content) * count + PLAIN + END
        with pytest.raises(UserError, match="extended headers for a member"):
            list(iter_samples(data, "a.tar"))
        assert read_content(data, "a.tar").skipped


def test_records_that_are_none_and_headers_that_are_too_large_are_refused():
    for content in (
        b"9" * 80_000,
        b"0 path=a\n",
        b"-1 path=a\n",
        b"99999999999999999999 path=a\n",
        b"12 path=a\n",
        record(b"size=" + b"9" * 5000),
        record(b"size=-1"),
        record(b"size=1e3"),
        record(b"path"),
    ):
        with pytest.raises(BadMemberError, match="damaged extended header"):
            read_member(extended(b"x", content) + PLAIN, 0)
    for name in (b"path=a", b"size=1", b"GNU.sparse.map=0,1"):
        with pytest.raises(BadMemberError, match="for all of its members"):
            read_member(extended(b"g", record(name)) + PLAIN, 0)
    assert read_member(extended(b"x", bytes(MOST_EXTENDED_BYTES)) + PLAIN, 0).name == "a.png"
    with pytest.raises(BadMemberError, match="extended header of"):
        read_member(extended(b"x", bytes(MOST_EXTENDED_BYTES + 1)) + PLAIN, 0)


@pytest.mark.parametrize("name", [b"../" * 300_000, b"a." * 500_000, b"." * 10**6, b"\x1b]0;" * 200_000])
def test_names_of_any_length_are_told_by_their_beginnings(name):
    named = extended(b"x", record(b"path=" + name)) + PLAIN
    skipped = read_content(named * 2 + b"x" * BLOCK + END, "a.tar").skipped
    assert skipped
    assert all(len(str(entry)) < 2000 and str(entry).isprintable() for entry in skipped)
    with pytest.raises(UserError) as caught:
        list(iter_samples(named * 2 + b"x" * BLOCK + END, "a.tar"))
    assert len(str(caught.value)) < 4000


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_any_mixture_of_blocks_is_read_or_refused(parts, rng):
    pieces = [
        PLAIN, header(kind=b"x", size=600), extended(b"x", record(b"path=b.png")), extended(b"L", b"c.png"),
        header(size=2**33 - 1), header(_124=b"\xff" * 12), rng.randbytes(BLOCK), bytes(BLOCK), header(kind=b"S"),
        header(b"\xff.png"),
    ]  # fmt: skip
    data = b"".join(pieces[part] for part in parts)
    places = [member.begin for member in find_members(data)]
    assert places == sorted(set(places))
    content = read_content(data + END, "a.tar")
    assert all(len(sample.files) for sample in content.samples)


def forged(mib: int = 8) -> dict[str, bytes]:
    """Return archives of so many MiB that take long to read where each block is looked at again and again."""
    blocks = mib * 2048
    junk = b"x" * BLOCK
    as_records = bytearray(header(b"512 c=1", b"x", BLOCK))
    as_records[500:512] = b"z" * 11 + b"\n"
    as_records[148:156] = b" " * 8
    as_records[148:156] = b"%06o\0 " % sum(as_records)
    wrong = bytearray(header(b"\xff" * 90))
    wrong[148:156] = b"0000001\0"
    return {
        "an extended header behind junk": junk * (blocks - 9) + extended(b"x", record(b"comment=1")) + junk * 6,
        "a chain": extended(b"x", record(b"comment=" + b"1" * 480)) * (blocks // 2),
        "a chain of long names": extended(b"L", b"1" * BLOCK) * (blocks // 2),
        "digits": extended(b"x", b"9" * MOST_EXTENDED_BYTES) * (mib - 1),
        "headers that are records": bytes(as_records) * blocks,
        "headers that promise too much": header(kind=b"x", size=2**33 - 1) * blocks,
        "wrong checksums": bytes(wrong) * blocks,
        "empty members": header() * blocks,
        "members behind junk": (header(b"b.png", size=1) + padded(b"x") + junk) * (blocks // 3),
    }


@pytest.mark.parametrize("name", forged())
def test_forged_archives_take_time_in_proportion_to_their_size(name):
    data = forged()[name]
    began = time.process_time()
    content = read_content(data, "a.tar")
    assert time.process_time() - began < 2  # some 0.3 s; 10 s are allowed for 100 MB
    assert content.skipped


@pytest.mark.slow
@pytest.mark.parametrize("name", forged(1))
def test_100_mib_of_a_forged_archive_take_at_most_10_s(name):
    data = forged(100)[name]
    began = time.process_time()
    assert read_content(data, "a.tar").skipped
    assert time.process_time() - began < 10
