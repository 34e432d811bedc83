"""WebDataset shards: written as others read them, and never read wrongly without a complaint."""

import contextlib
import io
import random
import tarfile

import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.data.images.decoding import encode_png
from dpt_ray.data.shards.archive_samples import iter_samples, split_name
from dpt_ray.data.shards.salvage import reliable_samples
from dpt_ray.data.shards.samples import Sample, build_shard, fetch_shard, sha256
from dpt_ray.errors import UserError

WHERE = "memory://bucket/00000.tar"
SAMPLES = [
    Sample(f"image-{n}", {"png": bytes((n * 31 + i) % 251 + 1 for i in range(300 + 400 * n)), "cls": str(n).encode()})
    for n in range(4)
]
SHARD = build_shard(SAMPLES)
BLOCK = 512


def read(data: bytes) -> list[Sample]:
    return list(iter_samples(data, WHERE))


def tar(*members: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    """Return a tar file with members given whole, or as names and contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def members(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getmembers()


HEADERS = [member.offset for member in members(SHARD)]
END = members(SHARD)[-1].offset_data + -(-members(SHARD)[-1].size // BLOCK) * BLOCK
"""Where the end-of-archive mark begins."""


def complaint(data: bytes) -> str:
    with pytest.raises(UserError) as caught:
        read(data)
    return str(caught.value)


def test_samples_come_back_as_they_were_written():
    assert read(SHARD) == SAMPLES
    assert [sample.label(WHERE) for sample in read(SHARD)] == [0, 1, 2, 3]
    assert [sample.image_bytes(WHERE) for sample in read(SHARD)] == [sample.files["png"] for sample in SAMPLES]


KEYS = st.lists(st.text("abcxyz0189_-", min_size=1, max_size=150), min_size=0, max_size=5, unique=True)
FILES = st.dictionaries(st.sampled_from(["jpg", "png", "cls", "json", "tar.gz"]), st.binary(max_size=1600), min_size=1)


@given(keys=KEYS, folder=st.sampled_from(["", "train/", "deep/er/"]), data=st.data())
def test_any_samples_come_back(keys, folder, data):
    samples = [Sample(folder + key, data.draw(FILES)) for key in keys]
    assert read(build_shard(samples)) == samples


def test_equal_samples_give_equal_bytes():
    assert build_shard(iter(SAMPLES)) == SHARD
    assert build_shard(SAMPLES[::-1]) != SHARD


def test_webdataset_reads_what_we_write(tmp_path):
    path = tmp_path / "00000.tar"
    path.write_bytes(SHARD)
    samples = [
        Sample(sample["__key__"], {name: value for name, value in sample.items() if not name.startswith("__")})
        for sample in webdataset.WebDataset(str(path), shardshuffle=False)
    ]
    assert samples == SAMPLES


def test_we_read_what_webdataset_writes(tmp_path):
    path = tmp_path / "00000.tar"
    with webdataset.TarWriter(str(path)) as writer:
        writer.write({"__key__": "a/b", "cls": 7, "jpg": b"picture"})
    assert read(path.read_bytes()) == [Sample("a/b", {"cls": b"7", "jpg": b"picture"})]


def test_tarfile_reads_plain_members_that_say_nothing_of_time_and_person():
    found = members(SHARD)
    assert [member.name for member in found] == [f"image-{n}.{ext}" for n in range(4) for ext in ("cls", "png")]
    assert {(member.mtime, member.uname, member.mode) for member in found} == {(0, "dpt", 0o444)}
    with tarfile.open(fileobj=io.BytesIO(SHARD)) as archive:
        assert archive.extractfile("image-3.png").read() == SAMPLES[3].files["png"]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_tar_dialect_is_read_with_folders_and_long_names(format):
    buffer = io.BytesIO()
    key = "folder/" + "k" * 90
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        info = tarfile.TarInfo(f"./{key}.PNG")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    assert read(buffer.getvalue()) == [Sample(key, {"png": b"abc"})]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", ("a", "jpg")),
        ("./a/b.c.JPG", ("a/b", "c.jpg")),
        ("a.b/c.cls", ("a.b/c", "cls")),
        ("n04235860_14959.JPEG", ("n04235860_14959", "jpeg")),
        ("plain", ("plain", "")),
    ],
)
def test_names_are_split_at_the_first_dot_of_the_last_part(name, expected):
    assert split_name(name) == expected


# Damage


def test_cut_anywhere_is_refused_or_loses_nothing():
    whole = END + 2 * BLOCK
    assert len(SHARD) >= whole
    for length in range(len(SHARD)):
        if length < whole:
            assert complaint(SHARD[:length]).startswith(WHERE)
        else:  # only padding after the end mark is missing
            assert read(SHARD[:length]) == SAMPLES


def test_cut_at_a_member_boundary_is_refused_even_after_a_file_of_zeros():
    shard = build_shard([Sample("a", {"bin": bytes(4096)}), Sample("b", {"bin": bytes(4096)})])
    end = members(shard)[-1].offset_data + 4096
    for length in range(BLOCK, end + 2 * BLOCK, BLOCK):
        complaint(shard[:length])
    assert len(read(shard[: end + 2 * BLOCK])) == 2


def test_missing_end_mark_is_told_as_such():
    assert "no end-of-archive mark" in complaint(SHARD[:END])
    assert "no end-of-archive mark" in complaint(b"")
    assert "no end-of-archive mark" in complaint(SHARD[:END] + b"x" * 2048)


def test_what_is_no_tar_file_is_refused():
    complaint(random.Random(0).randbytes(4096))
    complaint(random.Random(0).randbytes(4096) + bytes(1024))
    assert read(bytes(10240)) == []  # an archive without members is whole


def test_every_changed_byte_of_a_header_is_noticed_or_harmless():
    rng = random.Random(0)
    outcomes = {"refused": 0, "harmless": 0}
    for header in HEADERS:
        for place in range(header, header + BLOCK):
            damaged = bytearray(SHARD)
            damaged[place] ^= rng.randrange(1, 256)
            try:
                assert read(bytes(damaged)) == SAMPLES, place
                outcomes["harmless"] += 1
            except UserError:
                outcomes["refused"] += 1
    assert outcomes["refused"] > 0.95 * BLOCK * len(HEADERS)


def test_a_flipped_bit_anywhere_is_refused_or_changes_content_alone():
    rng = random.Random(1)
    names = [(sample.key, sorted(sample.files)) for sample in SAMPLES]
    changed = 0
    for _ in range(2000):
        damaged = bytearray(SHARD)
        damaged[rng.randrange(len(SHARD))] ^= 1 << rng.randrange(8)
        try:
            samples = read(bytes(damaged))
        except UserError:
            continue
        assert [(sample.key, sorted(sample.files)) for sample in samples] == names
        assert all(
            len(found.files[extension]) == len(sample.files[extension])
            for found, sample in zip(samples, SAMPLES, strict=True)
            for extension in sample.files
        )
        changed += samples != SAMPLES
    assert changed > 0


def resealed(shard: bytes, header: int, changes: dict[int, int]) -> bytes:
    """Return `shard` with bytes of a header changed and the header's own checksum made right again."""
    block = bytearray(shard[header : header + BLOCK])
    for place, value in changes.items():
        block[place] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return shard[:header] + bytes(block) + shard[header + BLOCK :]


INTERESTING = b"\x00\x80\xff01257xgSLKX-"
PLACES = st.integers(0, BLOCK - 1) | st.integers(124, 135) | st.just(156) | st.integers(257, BLOCK - 1)
CHANGES = st.dictionaries(PLACES, st.integers(0, 255) | st.sampled_from(list(INTERESTING)), min_size=1, max_size=6)


@given(header=st.sampled_from(HEADERS), changes=CHANGES)
def test_headers_forged_with_a_right_checksum_give_no_other_exception(header, changes):
    with contextlib.suppress(UserError):
        read(resealed(SHARD, header, changes))


@pytest.mark.parametrize(
    "size", [b"\x80" + b"\x7f" * 11, b"\x80\0\0\0\x48" + b"\0" * 7, b"\xff" * 12, b"77777777777\0"]
)
def test_absurd_sizes_are_refused(size):
    for header in HEADERS:
        complaint(resealed(SHARD, header, dict(enumerate(size, start=124))))


def test_the_checksum_of_the_index_catches_every_change(tmp_path):
    path = tmp_path / "00000.tar"
    rng = random.Random(2)
    path.write_bytes(SHARD)
    index = {"size": len(SHARD), "checksum": sha256(SHARD)}
    assert fetch_shard(str(path), **index) == SHARD
    for attempt in range(300):
        damaged = bytearray(SHARD)
        if attempt % 3 == 0:
            del damaged[rng.randrange(len(SHARD)) :]
        else:
            for place in rng.sample(range(len(SHARD)), attempt % 3):
                damaged[place] ^= rng.randrange(1, 256)
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"index .*restore it, or index the data again"):
            fetch_shard(str(path), **index)


def test_a_shard_that_is_gone_is_named(tmp_path):
    with pytest.raises(UserError, match=r"00000\.tar: does not exist"):
        fetch_shard(str(tmp_path / "00000.tar"))


# Content that is refused


def special(kind: bytes, name: str = "a.png", linkname: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, linkname
    return info


@pytest.mark.parametrize(
    "member",
    [
        special(tarfile.SYMTYPE, linkname="/etc/passwd"),
        special(tarfile.LNKTYPE, linkname="b.png"),
        special(tarfile.CHRTYPE),
        special(tarfile.BLKTYPE),
        special(tarfile.FIFOTYPE),
        special(tarfile.GNUTYPE_SPARSE),
    ],
    ids=["symbolic link", "hard link", "character device", "block device", "pipe", "sparse file"],
)
def test_what_is_not_a_regular_file_is_refused(member):
    message = complaint(tar(("b.png", b"x"), member))
    assert "links, devices and sparse files are refused" in message
    assert "'a.png'" in message


def test_a_sparse_file_cannot_claim_terabytes():
    header = bytearray(tar(special(tarfile.GNUTYPE_SPARSE)))
    header[483:495] = b"7" * 11 + b"\0"
    complaint(resealed(bytes(header), 0, {}))


@pytest.mark.parametrize("name", ["/a.png", "../a.png", "b/../a.png", "..", "./../a.png"])
def test_names_that_lead_out_are_refused(name):
    assert "absolute name or one with '..'" in complaint(tar((name, b"x")))


def test_dots_in_names_that_lead_nowhere_are_fine():
    assert [sample.key for sample in read(tar(("a..b/c.png", b"x"), ("d.png", b"x")))] == ["a..b/c", "d"]


def test_names_that_are_not_text_are_refused():
    assert "not UTF-8" in complaint(tar(("caf\udce9.png", b"x")))
    assert read(tar(("café-画像 1.png", b"x"))) == [Sample("café-画像 1", {"png": b"x"})]


def test_files_of_one_sample_must_be_next_to_each_other():
    message = complaint(tar(("a.png", b"1"), ("b.png", b"2"), ("a.cls", b"3")))
    assert message == f"{WHERE}: 'a': has files of one sample that are not next to each other"


def test_two_files_of_one_extension_are_refused():
    message = complaint(tar(("a.png", b"1"), ("a.PNG", b"2")))
    assert message == f"{WHERE}: sample 'a': has two .png files"


NO_IDS = [
    b"cat",
    b"-1",
    b"1.5",
    b"",
    b"\xff",
    b"1 2",
    b"0x1",
    b"+1",
    b"1_000",
    b'{"label": 1}',
    b"[1]",
    "\u0661".encode(),
]


@pytest.mark.parametrize("text", [*NO_IDS, b"9" * 5000, b"1" + b" " * 100, b"\0", b"1\0", "1".encode("utf-16")[:3]])
def test_labels_that_are_no_class_ids_are_refused(text):
    sample = Sample("a", {"cls": text})
    with pytest.raises(UserError, match=r"sample 'a': its \.cls file must hold a class id >= 0") as caught:
        sample.label(WHERE)
    assert "data.class_names" in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", [b"1000000", b"300000000", b"99999999999999999999", b"9" * 60])
def test_class_ids_that_no_data_set_has_are_refused(text):
    with pytest.raises(UserError) as caught:
        Sample("a", {"cls": text}).label(WHERE)
    assert str(caught.value).startswith(
        f"{WHERE}: sample 'a': its .cls file holds the class id {text.decode()}; at most 999,999 is read"
    )


def test_a_class_id_is_read_from_at_most_64_bytes():
    assert Sample("a", {"cls": b"999999".ljust(64)}).label(WHERE) == 999_999
    with pytest.raises(UserError, match="must hold a class id"):
        Sample("a", {"cls": b"999999".ljust(65)}).label(WHERE)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (b"0", 0),
        (b"17\n", 17),
        (b" 3 ", 3),
        (b"\xef\xbb\xbf4\r\n", 4),
        ("5\r\n".encode("utf-16"), 5),
        (b"\xfe\xff\0006", 6),
        (b"007", 7),
        (b"999999", 999_999),
    ],
)
def test_class_ids_are_read(text, label):
    assert Sample("a", {"cls": text}).label(WHERE) == label


def test_a_sample_without_a_label_has_none_and_one_without_an_image_says_what_it_has():
    sample = Sample("a", {"json": b"{}", "txt": b""})
    assert sample.label(WHERE) is None
    with pytest.raises(UserError, match=r"sample 'a': has no image file \(found: json, txt\)$"):
        sample.image_bytes(WHERE)


# Which file is the image

PNG = encode_png(np.zeros((3, 8, 8), np.uint8))


@pytest.mark.parametrize(
    "extension", ["jpg", "jfif", "jpe", "pgm", "avif", "jp2", "qoi", "image", "", "heic", "xyz", "input"]
)
def test_an_image_is_found_by_its_extension_or_by_its_content(extension):
    content = b"\0\0\0\x18ftypheic" if extension == "heic" else PNG
    assert Sample("a", {"cls": b"1", extension: content, "json": b"{}"}).image_bytes(WHERE) == content


def test_of_several_images_one_is_chosen_by_its_extension_alone():
    files = {"png": b"1", "avif": b"2", "jpeg": b"3", "webp": b"4"}
    for order in (files, dict(reversed(files.items()))):
        assert Sample("a", order).image_bytes(WHERE) == b"3"
        assert Sample("a", {"depth": PNG, **order}).image_bytes(WHERE) == b"3"
    for files in ({"depth": PNG, "mask": PNG}, {"txt": PNG}, {"bin": b"no image"}):
        with pytest.raises(UserError, match="has no image file"):
            Sample("a", files).image_bytes(WHERE)


@pytest.mark.parametrize("part", ["v2", "2024.06.01", "b.c.d"])
def test_further_dots_in_names_are_read_where_there_is_one_way_to(part):
    members = [
        (f"{n}.{part}.{ending}", PNG if ending == "png" else b"%d" % n) for n in range(3) for ending in ("cls", "png")
    ]
    samples = read(tar(*members))
    assert samples == [Sample(f"{n}", {"cls": b"%d" % n, "png": PNG}) for n in range(3)]
    damaged = bytearray(tar(*members, ("x.png", PNG), ("y.png", PNG)))
    damaged[damaged.index(b"y.png")] ^= 1
    assert reliable_samples(bytes(damaged), WHERE)[0] == samples


@pytest.mark.parametrize(
    "files",
    [
        {"v1.png": PNG, "v1.cls": b"1", "v2.png": PNG, "v2.cls": b"1"},
        {"png": PNG, "v2.cls": b"1"},
        {"v2.png": PNG, "cls": b"1"},
        {"input.png": PNG, "target.png": PNG},
    ],
)
def test_further_dots_that_leave_a_doubt_are_explained(files):
    (sample,) = read(tar(*((f"0.{extension}", content) for extension, content in files.items())))
    with pytest.raises(
        UserError, match=r"a key ends at the first dot of a file's name.* '0\.\w+\.(png|cls)'"
    ) as caught:
        sample.label(WHERE), sample.image_bytes(WHERE)
    assert len(str(caught.value)) < 400


def test_versions_of_images_one_after_another_are_explained():
    message = complaint(tar(("0.v1.png", b"1"), ("1.v1.png", b"1"), ("0.v2.png", b"1")))
    assert "not next to each other; a key ends at the first dot" in message
