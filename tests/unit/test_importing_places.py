"""What a location stands for: one set of one split, all of it, or a line that says what lies there and what to name."""

import io
import os
import socket
import tarfile
import threading
import unicodedata
import zlib
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from importing_data import encoded, labels_of, new_place, settings, shards_of, write

from dpt_ray.data.importing import sniffing
from dpt_ray.data.importing.detect import describe
from dpt_ray.data.importing.file_sets import SHARDS, find_files, list_shards
from dpt_ray.data.importing.import_plan import missed_first
from dpt_ray.data.importing.litter import why_passed_over
from dpt_ray.data.importing.same_place import canonical_location
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path) -> str:
    return new_place(request.param, tmp_path)


def class_folders(*names: str, count: int = 2) -> dict[str, bytes]:
    return {f"{name}/{number}.png": encoded() for name in names for number in range(count)}


def table() -> bytes:
    rows = pa.array([{"bytes": encoded(), "path": None}], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": rows, "label": pa.array([0])}), buffer)
    return buffer.getvalue()


def archive(*members: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in members:
            tar.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


def complaint(data, split: str = "train") -> str:
    """What is said where a split is looked at: by the import, or by the listing of shards that stay where they lie."""

    def look() -> None:
        if describe(split, data) is None:
            list_shards(stores.absolute_url(data.train if split == "train" else data.test))

    with pytest.raises(UserError) as caught:
        look()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def ignored_of(images) -> dict[str, str]:
    return {entry.name: entry.reason for entry in images.ignored}


# ---------------------------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize(
    "names",
    [("train", "test"), ("mnist-train", "mnist-test"), ("Train_0", "VALID-1", "extra"), ("a_training_1", "dev")],
)
@pytest.mark.parametrize(("ending", "content"), [(".parquet", table()), (".tar", b"x"), (".TAR", b"x")])
def test_files_of_several_splits_are_never_one_set(root, names, ending, content):
    write(root, {f"{name}{ending}": content for name in names} | {"README.md": "x", f"0001{ending}": content})
    for form in ("auto", "shards" if "tar" in ending.lower() else "parquet"):
        text = complaint(settings(root, format=form))
        assert text.startswith(f"{root}: holds ")
        assert "of several splits" in text
        for name in names:
            assert f"{root}/{name}{ending}" in text or f"{root}/{name[:-1]}*{ending}" in text


def test_a_pattern_chooses_a_split_of_shards_or_tables(root):
    names = [f"{split}-{number}" for split in ("train", "test", "train_extra") for number in range(2)]
    write(f"{root}/a", {f"{name}.tar": b"x" for name in names})
    write(f"{root}/b", {f"{name}.parquet": table() for name in names})
    assert [file["name"] for file in list_shards(f"{root}/a/test-*.tar")] == ["test-0.tar", "test-1.tar"]
    assert len(list_shards(f"{root}/a/train*.tar")) == 4  # all of them name the split that the pattern names
    assert len(list_shards(f"{root}/a/*[a]in-[0-9].tar")) == 2
    assert [file["url"] for file in list_shards(f"{root}/a/test-1.tar")] == [f"{root}/a/test-1.tar"]
    assert len(labels_of(describe("train", settings(f"{root}/b/test*")))) == 2
    assert describe("train", settings(f"{root}/a/test*")) is None
    for pattern in ("a/t*.tar", "a/*.tar", "a/*", "b/*.parquet", "b/t*"):
        assert "of several splits" in complaint(settings(f"{root}/{pattern}"))


def test_what_a_pattern_does_not_match_is_said(root):
    write(root, {"train-0.tar": b"x"})
    for location, words in {
        "val-*.tar": "matches no file",
        "train-{0..9}.tar": "write * instead of the braces",
        "none.tar": "does not exist",
        "none": "does not exist; give a folder of WebDataset shards",
    }.items():
        for form in ("auto", "shards"):
            if location != "none" or form == "auto":
                assert words in complaint(settings(f"{root}/{location}", format=form))


SPLIT_FOLDERS = [
    ("train", "test"), ("Training", "Testing"), ("seg_train", "seg_test"), ("train", "test", "extra"),
    ("TRAIN", "Val2017"), ("train_images", "test-set"), ("imagesTr", "imagesTs"), ("trainA", "testA"),
    ("train", "unlabeled"),
]  # fmt: skip


@pytest.mark.parametrize("names", SPLIT_FOLDERS)
@pytest.mark.parametrize("deep", [False, True])
def test_class_folders_of_several_splits_are_never_one_set(root, names, deep):
    inner = ("/cat", "/dog") if deep else ("",)
    write(root, class_folders(*(name + end for name in names for end in inner)) | {"labels/1.txt": "x", "README": "x"})
    text = complaint(settings(root))
    assert "which are splits, not classes" in text
    for name in names:
        assert name in text.split("which are splits")[0]
        assert f"{root}/{name}" in text


def test_splits_within_a_folder_around_them_and_within_classes_are_found(root):
    write(f"{root}/a", class_folders("data/train/cat", "data/train/dog", "data/test/cat", "data/test/dog"))
    assert f"name one of them: {root}/a/data/test or {root}/a/data/train" in complaint(settings(f"{root}/a"))
    write(f"{root}/b", class_folders("cat/train", "cat/test", "dog/train", "dog/test"))
    assert "its folder 'cat' holds folders that are called test, train, which are splits" in complaint(
        settings(f"{root}/b", class_names=("cat", "dog"))
    )
    write(f"{root}/c", class_folders("train/cat", "train/dog", "other/cat", "other/dog"))
    assert "its folder 'train' has the name of a split" in complaint(settings(f"{root}/c"))


@pytest.mark.parametrize(
    "names", [("train", "car", "bus", "test_tube"), ("bullet_train", "test tube", "dev kit"), ("valid", "invalid")]
)
def test_classes_that_are_called_as_splits_are_classes(root, names):
    assert describe("train", settings(write(root, class_folders(*names)))).class_names == tuple(sorted(names))


def test_named_classes_are_classes_whatever_they_are_called(root):
    write(root, class_folders("train", "test"))
    assert "if they are classes, list all class names in data.class_names" in complaint(settings(root))
    assert describe("train", settings(root, class_names=("test", "train"))).class_names == ("test", "train")


# ------------------------------------------------------------------------------------------------------- same place


def test_training_and_test_data_that_are_one_place_are_refused(root):
    write(f"{root}/folders", class_folders("cat", "dog"))
    write(f"{root}/tables", {"a.parquet": table(), "b.parquet": table()})
    write(f"{root}/shards", {"a.tar": b"x", "b.tar": b"x"})
    detours = (
        () if root.startswith("memory") else ("./{0}", "{0}/../{0}", "{0}/.")
    )  # which object stores take literally
    for kind in ("folders", "tables", "shards"):
        for test in (kind, f"{kind}/", f"{kind}//", *(detour.format(kind) for detour in detours)):
            text = complaint(settings(f"{root}/{kind}", f"{root}/{test}"), "test")
            assert text.startswith("data.train and data.test (")
            assert "are the same place; give images as data.test that are not among" in text
    for train, test, shared in (
        ("shards", "shards/b.tar", "b.tar"),
        ("shards/a*", "shards", "a.tar"),
        ("shards/a*", "shards/*.tar", "a.tar"),
        ("tables", "tables/b.parquet", "b.parquet"),
        ("tables/*", "tables/a.parquet", "a.parquet"),
    ):
        assert f"share the file {shared}" in complaint(settings(f"{root}/{train}", f"{root}/{test}"), "test")
    assert describe("test", settings(f"{root}/shards/a.tar", f"{root}/shards/b*.tar")) is None
    assert describe("test", settings(f"{root}/tables/a*", f"{root}/tables/b.parquet")) is not None


def test_a_place_within_the_other_is_refused_if_they_share_files(root):
    write(root, class_folders("cat", "dog/deep", "dog/er") | class_folders(".held/cat", ".held/dog"))
    assert "share the file dog/deep/0.png" in complaint(
        settings(root, f"{root}/dog", class_names=("deep", "er", "cat", "dog")), "test"
    )
    assert describe("test", settings(root, f"{root}/.held")).class_names == ("cat", "dog")


def test_links_lead_to_the_same_place(tmp_path):
    write(str(tmp_path / "data"), class_folders("cat", "dog"))
    (tmp_path / "link").symlink_to(tmp_path / "data")
    (tmp_path / "above").symlink_to(tmp_path)
    for test in (
        tmp_path / "link",
        tmp_path / "above" / "data",
        f"file://{tmp_path}/data/",
        tmp_path / "above" / "link",
    ):
        assert "are the same place" in complaint(settings(str(tmp_path / "data"), str(test)), "test")
    write(str(tmp_path / "shards"), {"a.tar": b"x"})
    (tmp_path / "s").symlink_to(tmp_path / "shards")
    assert "share the file a.tar" in complaint(settings(f"{tmp_path}/shards/*.tar", f"{tmp_path}/s/a.tar"), "test")


def test_a_folder_with_a_table_for_each_split_is_fine_and_one_table_is_not(root):
    write(root, class_folders("x", count=3))
    for split, number in (("train", 0), ("test", 1)):
        write(root, {f"{split}.csv": f"file,label\nx/{number}.png,cat\n"})
    data = settings(root, root, train_labels=f"{root}/train.csv", test_labels=f"{root}/test.csv")
    assert describe("test", data) is not None
    same = data.model_copy(update={"test_labels": f"{root}/./train.csv"})
    assert "are the same images, those that" in complaint(same, "test")


@given(st.lists(st.sampled_from(["", ".", "x/.."]), max_size=4))
def test_every_spelling_of_a_place_is_one_place(detours):
    for url in ("s3://bucket/a/b", "memory://a/b", "/tmp/a/b", "file:///tmp/a/b"):
        scheme, mark, path = url.rpartition("://")
        spelt = scheme + mark + "/".join([*path.split("/")[:-1], *detours, path.split("/")[-1]]) + "/"
        assert canonical_location(spelt) == canonical_location(url)
    assert (
        canonical_location("s3a://bucket/a/b")
        == canonical_location("s3://bucket/a/b")
        != canonical_location("s3://bucket/a/B")
    )


# -------------------------------------------------------------------------------------------------- what is left out


def test_what_lies_beside_and_below_shards_is_listed(root):
    names = (
        "0.tar 1.TAR 2.tar.gz 3.tgz ._0.tar .hidden notes.txt README.md __meta__.json a.parquet more/4.tar "
        "more/deep/5.tar more/6.tar.gz __MACOSX/._x.tar docs/a.txt @eaDir/0.tar"
    )
    write(root, dict.fromkeys(names.split(), b"x"))
    found = find_files(root, SHARDS)
    assert [file["name"] for file in found.files] == ["0.tar", "1.TAR"]
    reasons = ignored_of(found)
    assert set(reasons) == {
        "2.tar.gz", "3.tgz", "._0.tar", ".hidden", "notes.txt", "README.md", "__meta__.json", "a.parquet", "more/4.tar",
        "more/deep/5.tar", "more/6.tar.gz", "__MACOSX/", "docs/", "@eaDir/",
    }  # fmt: skip
    assert reasons["2.tar.gz"] == "an archive that is not read; decompress it to *.tar to have its images"
    assert f"give {root}/more as the location" in reasons["more/4.tar"]
    assert reasons["notes.txt"] == "not one of the shards by its name (*.tar)"
    assert find_files(f"{root}/*.tar", SHARDS).ignored == ()
    shown = [entry.name for entry in missed_first(found.ignored)[:6]]
    assert shown == ["2.tar.gz", "3.tgz", "a.parquet", "notes.txt", "more/4.tar", "more/6.tar.gz"]


def test_what_lies_beside_and_below_tables_is_listed(root):
    write(
        root,
        {"a.parquet": table(), "B.PARQUET": table(), "c.parquet.gz": b"x", "deep/d.parquet": table(), "e.tar.gz": "x"},
    )
    found = describe("train", settings(root))
    assert len(labels_of(found)) == 2
    assert set(ignored_of(found)) == {"c.parquet.gz", "deep/d.parquet", "e.tar.gz"}


def test_folders_are_looked_into_up_to_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr("dpt_ray.data.importing.file_sets._MAX_FOLDERS", 3)
    write(str(tmp_path), {"0.tar": b"x"} | {f"{number}/x.tar": b"x" for number in range(5)})
    reasons = ignored_of(find_files(str(tmp_path), SHARDS))
    assert set(reasons) == {"0/x.tar", "1/x.tar", "2/x.tar", "3/", "4/"}
    assert reasons["4/"] == "a folder that was not looked into"


def test_only_compressed_archives_are_no_shards(root):
    write(root, {"0.tar.gz": b"x", "1.zip": b"x"})
    assert "archives that are not read (0.tar.gz, 1.zip); decompress them" in complaint(settings(root, format="shards"))
    assert "(found: 0.tar.gz, 1.zip)" in complaint(settings(root))
    assert "is a compressed file or an archive; unpack it" in complaint(settings(f"{root}/1.zip"))


LITTER = (
    "cat/._0.png cat/.DS_Store __MACOSX/cat/0.png cat/@eaDir/0.png/SYNOFILE_THUMB_M.png cat/Thumbs.db dog/desktop.ini "
    "dog/.ipynb_checkpoints/0.png #recycle/cat/1.png lost+found/1.png cat/README LICENSE.txt readme.md __meta__.json "
    "$RECYCLE.BIN/0.png cat/0.png:Zone.Identifier"
)


def test_litter_is_neither_class_nor_image(root):
    write(root, class_folders("cat", "dog") | dict.fromkeys(LITTER.split(), encoded()))
    found = describe("train", settings(root))
    assert found.class_names == ("cat", "dog")
    assert sorted(labels_of(found)) == ["cat/0", "cat/1", "dog/0", "dog/1"]
    assert found.refused == ()
    assert set(ignored_of(found)) == {
        "cat/._0.png", "cat/.DS_Store", "__MACOSX/", "cat/@eaDir/", "cat/Thumbs.db", "dog/desktop.ini",
        "dog/.ipynb_checkpoints/", "#recycle/", "lost+found/", "cat/README", "LICENSE.txt", "readme.md",
        "__meta__.json", "$RECYCLE.BIN/", "cat/0.png:Zone.Identifier",
    }  # fmt: skip


def test_images_are_never_litter_by_their_stem():
    assert not any(map(why_passed_over, ["license/1.png", "readme.png", "README/1.jpg", "cat/notice.jpeg", "a.b/c"]))


# ------------------------------------------------------------------------------------------------- found by content


def test_images_are_found_by_content_whatever_they_are_called(root):
    files = {
        "cat/0.jfif": encoded(form="JPEG"),
        "cat/photo": encoded(),
        "cat/a.b": encoded(),
        "cat/scan.0001": encoded(form="TIFF"),
        "cat/really.txt": encoded(form="GIF"),
        "dog/0.pgm": encoded(form="PPM", mode="L"),
        "dog/trailing.": encoded(form="WEBP"),
    }
    found = describe("train", settings(write(root, files | {"dog/list.csv": "a,b", "dog/empty": ""})))
    assert labels_of(found) == {
        "cat/0": 0, "cat/photo": 0, "cat/a": 0, "cat/scan": 0, "cat/really": 0, "dog/0": 1, "dog/trailing%2E": 1,
    }  # fmt: skip
    assert ignored_of(found) == dict.fromkeys(["dog/list.csv", "dog/empty"], "is not an image by its content")
    shards, _ = shards_of(found)
    assert {b for shard in shards for s in shard for name, b in s.files.items() if name != "cls"} == set(files.values())


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(300)


def test_an_image_that_needs_a_plug_in_names_it(root):
    found = describe(
        "train", settings(write(root, class_folders("cat", "dog") | {"cat/phone.heic": HEIC, "dog/x": HEIC}))
    )
    assert {entry.where for entry in found.refused} == {f"{root}/cat/phone.heic", f"{root}/dog/x"}
    assert all("pillow-heif" in entry.reason for entry in found.refused)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("0.heic", HEIC, "emu/0.heic is an image of the format HEIF"),
        ("0.heic", b"no image", "emu/0.heic is not an image by its content"),
        ("0.npy", b"\x93NUMPY\1\0" + bytes(50), "emu/0.npy is not an image by its content"),
        ("images.zip", b"PK\x03\x04" + bytes(50), "is not an image but a zip archive"),
        ("deep/0.dcm", b"", "emu/deep/0.dcm is not an image"),
    ],
)
def test_a_class_without_a_single_image_is_an_error_that_names_it(root, name, content, words):
    write(root, class_folders("cat", "dog") | {f"emu/{name}": content, "emu/README.md": "x"})
    others = describe("train", settings(root, class_names=("dog", "cat")))  # where the classes are listed, it is none
    assert others.class_names == ("dog", "cat")
    text = complaint(settings(root))
    assert f"{root}: its folder 'emu' holds no image that can be used, so the class would be lost: " in text
    assert words in text


def test_folders_of_texts_and_empty_folders_are_no_classes(tmp_path):
    write(
        str(tmp_path),
        class_folders("cat", "dog") | {"docs/a.md": "x", "docs/b.pdf": b"%PDF\xff", "scripts/run": "echo"},
    )
    (tmp_path / "nothing").mkdir()
    found = describe("train", settings(str(tmp_path)))
    assert found.class_names == ("cat", "dog")
    assert ignored_of(found)["nothing/"] == "a folder without files"


def test_of_very_many_files_of_one_ending_a_sample_decides(root, monkeypatch):
    monkeypatch.setattr(sniffing, "TRIED_PER_EXTENSION", 4)
    read, original = [], stores.read_range
    monkeypatch.setattr(stores, "read_range", lambda url, *place: read.append(url) or original(url, *place))
    notes = {f"cat/{number}.xml": "<a/>" for number in range(20)}
    hidden = {f"dog/{number}.dat": encoded() for number in range(20)}
    found = describe("train", settings(write(root, class_folders("cat") | notes | hidden)))
    assert sum(url.endswith(".xml") for url in read) <= 4
    assert len(found.files) == 2 + 20
    reasons = [entry.reason for entry in found.ignored]
    assert reasons.count("is not looked into, since 4 files of the same ending hold no image") == 16


def test_pointers_and_pages_called_images_say_what_they_are(root):
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1234\n"
    write(root, class_folders("cat", "dog") | {"cat/a.jpg": pointer, "dog/b.jpg": "<!DOCTYPE html><html></html>"})
    _, skipped = shards_of(describe("train", settings(root)))
    reasons = {entry.where.rpartition("/")[2]: entry.reason for entry in skipped}
    assert "git lfs pull" in reasons["a.jpg"]
    assert "web page" in reasons["b.jpg"]


# --------------------------------------------------------------------------------------------------- other layouts


def test_a_cloned_hub_repository_says_which_files_to_name(root):
    files = {f"data/{split}-00000-of-00001.parquet": table() for split in ("train", "test")}
    write(f"{root}/a", files | {"README.md": "x", ".git/config": "x", "refs/convert": "x"})
    text = complaint(settings(f"{root}/a"))
    assert (
        "2 Parquet files in folders below (data/test-00000-of-00001.parquet, data/train-00000-of-00001.parquet)" in text
    )
    assert f"name those of one split: {root}/a/data/test-*.parquet or {root}/a/data/train-*.parquet" in text
    write(f"{root}/b", {"shards/0.tar": b"x", "shards/1.tar": b"x"})
    assert complaint(settings(f"{root}/b")).endswith(f"name those of one split: {root}/b/shards")
    write(f"{root}/c", {f"{split}/0.parquet": table() for split in ("train", "test")})
    assert complaint(settings(f"{root}/c")).endswith(f"{root}/c/test or {root}/c/train")


def test_files_in_folders_below_are_named_where_their_format_is_set(root):
    write(root, {"data/0.tar": b"x", "data/0.parquet": table()})
    for form in ("shards", "parquet"):
        text = complaint(settings(root, format=form))
        assert text.endswith(f"name one of the folders: {root}/data")


def test_the_folder_of_cifar_10_is_named(root):
    write(f"{root}/a", {"cifar-10-batches-bin/data_batch_1.bin": bytes(3073), "cifar-10-batches-bin/readme.html": "x"})
    assert complaint(settings(f"{root}/a")).endswith(f"give {root}/a/cifar-10-batches-bin")
    write(f"{root}/b", {"py/batches.meta": b"x", "py/data_batch_1": b"x"})
    assert "a pickle can run any code" in complaint(settings(f"{root}/b"))


@pytest.mark.parametrize("around", ["dataset", "data/images"])
def test_a_folder_around_everything_is_named(root, around):
    write(root, class_folders(f"{around}/cat", f"{around}/dog") | {"__MACOSX/._x": "x", "README.txt": "x"})
    text = complaint(settings(root))
    assert f"holds all images in one folder, {around!r}; the folders in it (cat, dog) look like the classes" in text
    assert text.endswith(f"give {root}/{around}")


def test_one_class_in_test_data_is_no_folder_around_everything(root):
    write(f"{root}/a", class_folders("cat", "dog"))
    write(f"{root}/b", class_folders("cat/old", "cat/new"))
    assert set(labels_of(describe("test", settings(f"{root}/a", f"{root}/b"))).values()) == {0}


def test_class_folders_beside_their_archive_are_read(root):
    write(root, class_folders("cat", "dog") | {"images.tar": archive("cat/0.png", "dog/0.png")})
    found = describe("train", settings(root))
    assert found.class_names == ("cat", "dog")
    assert "data.format=shards" in ignored_of(found)["images.tar"]
    assert describe("train", settings(root, format="shards")) is None


def test_labelled_shards_beside_folders_of_images_are_read(root):
    write(root, class_folders("preview", "wrong") | {"0.tar": archive("0.png", "0.cls")})
    assert describe("train", settings(root)) is None
    assert set(ignored_of(find_files(root, SHARDS))) == {"preview/", "wrong/"}


@pytest.mark.parametrize("name", ["0.tar", "labels.parquet"])
def test_where_it_is_not_plain_what_is_meant_the_user_chooses(root, name):
    write(root, class_folders("cat", "dog") | {name: archive("0.png", "1.png")})
    text = complaint(settings(root))
    assert f"holds folders of images (cat, dog, ...) and beside them {name}; set data.format=class_folders" in text
    assert describe("train", settings(root, format="class_folders")).class_names == ("cat", "dog")


def test_names_that_look_the_same_are_one_class(tmp_path):
    composed, split = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    write(f"{tmp_path}/a", class_folders(composed, "dog"))
    write(f"{tmp_path}/b", class_folders(split, "dog"))
    found = describe("test", settings(f"{tmp_path}/a", f"{tmp_path}/b"))
    assert found.class_names == (composed, "dog")
    assert sorted(labels_of(found).values()) == [0, 0, 1, 1]
    assert found.notes == ()
    listed = settings(f"{tmp_path}/b", class_names=(split, "dog"))
    assert describe("train", listed).class_names == (composed, "dog")
    write(f"{tmp_path}/a", class_folders(split))
    both = describe("train", settings(f"{tmp_path}/a"))
    assert sorted(labels_of(both).values()) == [0] * 4 + [1] * 2
    assert both.notes == ("2 folders called 'café', in different Unicode forms (NFC and NFD), are one class",)


# ------------------------------------------------------------------------------------------- pipes, devices, sockets


def special(path, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))
    else:
        path.symlink_to({"link to a pipe": f"{path}.pipe", "link to a device": "/dev/zero"}[kind])
        if "pipe" in kind:
            os.mkfifo(f"{path}.pipe")


KINDS = ["pipe", "socket", "link to a pipe", "link to a device"]


@pytest.mark.parametrize("kind", KINDS)
def test_special_files_are_never_opened(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    opened, original = [], os.open

    def watched(path, *arguments, **options):
        opened.append(os.path.realpath(path))
        return original(path, *arguments, **options)

    monkeypatch.setattr(os, "open", watched)
    write(str(tmp_path / "a"), class_folders("cat", "dog"))
    for name in ("cat/x.png", "cat/y", "loose"):
        special(tmp_path / "a" / name, kind)
    found = describe("train", settings(str(tmp_path / "a")))
    assert len(labels_of(found)) == 4
    assert {name for name, reason in ignored_of(found).items() if "which is never opened" in reason} >= {
        "cat/x.png", "cat/y", "loose",
    }  # fmt: skip
    special(tmp_path / "place", kind)
    assert "which is never opened" in complaint(settings(str(tmp_path / "place")))
    assert "which is never opened" in complaint(settings(str(tmp_path / "place"), format="shards"))
    for ending, form in ((".tar", "shards"), (".parquet", "parquet")):
        write(str(tmp_path / form), {f"0{ending}": table()})
        special(tmp_path / form / f"1{ending}", kind)
        for location in (tmp_path / form, tmp_path / form / f"1{ending}", tmp_path / form / "*"):
            assert f"1{ending}: is a " in complaint(settings(str(location)))
    for read in (stores.read_bytes, lambda url: stores.read_range(url, 0, 10)):
        with pytest.raises(UserError, match=r"cannot be read .*which is never opened"):
            read(str(tmp_path / "place"))
    with pytest.raises(OSError, match="which is never opened"):
        stores.open_file(str(tmp_path / "place"))
    assert not [path for path in opened if not (os.path.isfile(path) or os.path.isdir(path))]


def test_a_pipe_that_takes_a_file_s_name_is_not_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"x")
    stat, taken = os.stat, []

    def replaced(name, *arguments, **options):
        status = stat(name, *arguments, **options)
        if str(name) == str(path) and not taken:
            taken.append(name)
            os.unlink(path)
            os.mkfifo(path)
        return status

    monkeypatch.setattr(os, "stat", replaced)
    complaints = []

    def read() -> None:
        try:
            stores.read_bytes(str(path))
        except UserError as error:
            complaints.append(error.what)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(timeout=20)
    assert complaints == ["cannot be read (it is a named pipe, which is never opened)"]


def test_no_more_is_read_of_a_file_than_was_listed(tmp_path, monkeypatch):
    found = describe("train", settings(write(str(tmp_path), class_folders("cat", "dog"))))
    with open(tmp_path / "cat" / "0.png", "ab") as file:
        file.truncate(2**40)  # sparse: a terabyte
    _, skipped = shards_of(found)
    size = len(encoded())
    assert [entry.reason for entry in skipped] == [f"held {size} bytes when listed, more when read"]


def test_links_that_lead_nowhere_are_refused_where_they_are_data(tmp_path):
    write(str(tmp_path), {"0.tar": b"x"})
    (tmp_path / "notes").symlink_to(tmp_path / "none")
    assert ignored_of(find_files(str(tmp_path), SHARDS)) == {"notes": "is a link to a file that does not exist"}
    (tmp_path / "1.tar").symlink_to(tmp_path / "none")
    assert "1.tar: is a link to a file that does not exist" in complaint(settings(str(tmp_path)))


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=6)


@given(st.lists(st.tuples(NAMES, NAMES, st.booleans()), min_size=1, max_size=8))
def test_every_file_below_class_folders_is_read_refused_or_ignored(files):
    root = new_place("memory", None)
    written = {f"{folder}/{name}": encoded() if good else zlib.compress(name.encode()) for folder, name, good in files}
    written = {name: content for name, content in written.items() if "//" not in name}
    write(root, written)
    listed = [entry["name"] for entry in stores.list_tree(root)]
    with suppress(UserError):  # folders without an image
        found = describe("train", settings(root))
        assert_all_counted(found, listed)


def assert_all_counted(found, listed: list[str]) -> None:
    counted = len(found.files) + len(found.refused)
    ignored = [entry.name for entry in found.ignored]
    below = sum(any(name.startswith(folder) for folder in ignored if folder.endswith("/")) for name in listed)
    assert counted + sum(not name.endswith("/") for name in ignored) + below == len(listed)
