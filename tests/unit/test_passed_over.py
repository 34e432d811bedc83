"""What systems and people leave in archives is passed over and told; an image that lost its file is not."""

import io
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
from encoded_images import encode, noise

from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.loading.read_rows import new_arrays, read_rows
from dpt_ray.data.loading.source import SourceShard
from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.label_counts import added_up
from dpt_ray.data.shards.layouts import find_layout
from dpt_ray.data.shards.passed_over import why_passed_over
from dpt_ray.data.shards.salvage import read_content
from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.shards.skipped import read_skipped
from dpt_ray.data.shards.tar_headers import plain_members
from dpt_ray.pipeline.artifacts.dataset import DatasetFacts, IndexedShard, say_passed_over
from dpt_ray.pipeline.execution.index_worker import IndexWorker, ListedShard
from dpt_ray.pipeline.steps.index_dataset import Dataset, _add_passed_over

FORM = ImageForm(8, 3)
PNG = encode(noise())
APPLE_DOUBLE = b"\0\5\x16\7" + bytes(22)
Members = list[tuple[str, bytes]]


def samples(count: int = 6) -> Members:
    return [member for n in range(count) for member in ((f"{n:04d}.png", PNG), (f"{n:04d}.cls", b"%d" % (n % 2)))]


def tar(members: Members, form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def doubled(members: Members, prefix: str) -> Members:
    """Return members as macOS's tar writes them: each behind a file of its attributes."""
    return [
        pair for name, content in members for pair in ((f"{prefix}._{name}", APPLE_DOUBLE), (prefix + name, content))
    ]


LITTERED = {
    "AppleDouble": doubled(samples(), ""),
    "AppleDouble in a folder": doubled(samples(), "./"),
    "AppleDouble in folders": doubled(samples(), "train/"),
    "__MACOSX": [*samples(), *((f"__MACOSX/._{name}", APPLE_DOUBLE) for name, _ in samples())],
    "__MACOSX between": [*doubled(samples(), "")[:3], ("__MACOSX/x/0001.png", PNG), *doubled(samples(), "")[3:]],
    "Finder": [("a/.DS_Store", b"x"), *samples(), (".DS_Store", b"x")],
    "Windows": [("Thumbs.db", b"x"), *samples()[:2], ("desktop.ini", b"x"), *samples()[2:]],
    "Synology": [*samples(), ("@eaDir/0000.png/SYNOFILE_THUMB_M.png", PNG)],
    "WebDataset's own": [("__meta__.json", b"{}"), *samples(), ("__index__", b"")],
    **{
        name: [(name, b"about"), *samples()]
        for name in (
            "README", "README.md", "readme.txt", "ReadMe", "LICENSE", "LICENSE.txt", "licence.md", "LICENSE-CC-BY.txt",
            "dataset.json", "dataset_info.json", "dataset_infos.json", "classes.txt", "labels.csv", "metadata.csv",
            "metadata.jsonl", "info.json", "index.json", "CITATION.cff", "class_names.names", "docs/README.md",
            "NOTICE", "md5sums.txt", "MANIFEST", "notes.txt", "VERSION",
        )
    },
    "README behind": [*samples(), ("README", b"about"), ("LICENSE", b"")],
}  # fmt: skip


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", LITTERED)
def test_litter_is_passed_over_and_told_and_all_images_are_read(name, form, tmp_path):
    members = LITTERED[name]
    data, url = tar(members, form), str(tmp_path / "0.tar")
    content = read_content(data, url)
    assert len(content.samples) == 6
    assert content.skipped == []
    kept = {f"{sample.key}.{extension}" for sample in content.samples for extension in sample.files}
    told = [member for member, _ in content.passed_over]
    assert len(told) == len(members) - 12
    assert {member.removeprefix("./") for member, _ in members} == kept | {member.removeprefix("./") for member in told}
    (tmp_path / "0.tar").write_bytes(data)
    worker = IndexWorker(str(tmp_path), str(tmp_path / "layouts"), FORM)
    facts = IndexedShard.from_json(worker.facts(ListedShard(0, url), worker.make(ListedShard(0, url))))
    assert (facts.samples, added_up([facts.class_counts]), facts.skipped) == (6, {0: 3, 1: 3}, ())
    passed_over = _add_passed_over([facts, facts])
    assert passed_over.members == 2 * len(told)
    line = say_passed_over(passed_over)
    assert line.startswith(f"{2 * len(told)} members of shards passed over, first {told[0]} (")
    dataset = SimpleNamespace(_beside=())
    summary = DatasetFacts(
        images=6, shards=1, bytes=len(data), images_per_class=(3, 3), class_names=None, passed_over=passed_over
    )
    assert line in Dataset.summary(dataset, summary)
    info = ShardInfo(url, len(data), sha256(data), 6)
    assert find_layout(data, info) is not None
    (block,) = read_rows(SourceShard(info), range(6), FORM, new_arrays(FORM, 6))
    assert (block["image"] == np.asarray(noise()).transpose(2, 0, 1)).all()


@pytest.mark.parametrize(
    "lost",
    [
        [("0007.cls", b"1")],
        [("0007.txt", b"a caption")],
        [("0007.json", b"{}")],
        [("c.txt", b"a caption")],
        [("0007.npy", b"\x93NUMPY")],
        [("README.cls", b"1")],
        [("labels.bin", b"1")],
        [("image-0007.txt", b"x")],
    ],
)
def test_a_sample_without_its_image_is_a_complaint(lost, tmp_path):
    data, url = tar([*samples(), *lost]), str(tmp_path / "0.tar")
    (tmp_path / "0.tar").write_bytes(data)
    worker = IndexWorker(str(tmp_path), str(tmp_path / "layouts"), FORM)
    facts = worker.facts(ListedShard(0, url), worker.make(ListedShard(0, url)))
    (entry,) = read_skipped(facts)
    assert entry.key == lost[0][0].partition(".")[0]
    assert "has no image file" in entry.reason
    assert facts["passed_over"][0] == 0


def test_a_text_that_comes_with_every_image_is_no_document():
    with_texts = [
        member
        for n, name in enumerate(["notes", "label", "info"])
        for member in ((f"{name}.png", PNG), (f"{name}.txt", b"%d" % n))
    ]
    content = read_content(tar([*with_texts, ("data.txt", b"its image is lost")]), "a.tar")
    assert [sample.key for sample in content.samples] == ["notes", "label", "info", "data"]
    assert content.passed_over == []


def test_damaged_shards_pass_over_the_same():
    members = [("README", b"about"), *doubled(samples(), ""), ("LICENSE", b"")]
    data = bytearray(tar(members, tarfile.USTAR_FORMAT))
    whole = read_content(bytes(data), "a.tar")
    header = data.rindex(b"0003.cls")
    data[header + 3] ^= 1
    content = read_content(bytes(data), "a.tar")
    assert {entry.key for entry in content.skipped} == {None, "0003", "0004"}
    assert content.samples == [sample for sample in whole.samples if sample.key not in ("0003", "0004")]
    assert sorted(content.passed_over) == sorted(whole.passed_over)


@pytest.mark.parametrize("name", ["0000.png", "a/0000.png", "a.b/c", "a..b.png", "__a.png", "_a__.png", "./a.png"])
def test_usual_names_are_not_passed_over(name):
    assert why_passed_over(name) is None


@pytest.mark.parametrize("name", LITTERED)
def test_the_quick_way_stands_back_where_a_name_may_have_to_be_passed_over(name):
    by_name = any(why_passed_over(member) for member, _ in LITTERED[name])
    assert (plain_members(tar(LITTERED[name], tarfile.USTAR_FORMAT)) is None) == by_name
