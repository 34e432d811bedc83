"""Class folders: every image in exactly one shard or listed, under the id of its folder."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from importing_data import encoded, labels_of, new_place, noise, settings, shards_of, write

from dpt_ray.data.images.decoding import encode_png
from dpt_ray.data.importing.detect import describe
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

CATS_AND_DOGS = {"cat/1.png": encoded(), "cat/deep/er/2.jpg": encoded(form="JPEG"), "dog/1.png": encoded()}


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path) -> str:
    return new_place(request.param, tmp_path)


def test_each_folder_is_a_class_and_images_are_copied_as_they_are(root):
    images = describe("train", settings(write(root, CATS_AND_DOGS)))
    assert images.kind == "class_folders"
    assert images.class_names == ("cat", "dog")
    assert labels_of(images) == {"cat/1": 0, "cat/deep/er/2": 0, "dog/1": 1}
    shards, skipped = shards_of(images, per_shard=2)
    assert [len(shard) for shard in shards] == [2, 1]
    assert skipped == []
    for sample in [sample for shard in shards for sample in shard]:
        name = next(name for name in CATS_AND_DOGS if name.startswith(f"{sample.key}."))
        assert sample.files[name.rpartition(".")[2]] == CATS_AND_DOGS[name]


def test_what_cannot_be_used_is_listed_with_its_reason(root):
    write(root, CATS_AND_DOGS)
    write(
        root,
        {
            "cat/text.png": "no image",
            "dog/empty.jpg": b"",
            "dog/cut.png": encode_png(noise(0, 20, 20).transpose(2, 0, 1))[:200],
        },
    )
    write(root, {"cat/.DS_Store": "x", "notes.txt": "x", "dog/list.csv": "x", "loose.png": encoded(), "doc/a.txt": "x"})
    images = describe("train", settings(root))
    assert images.class_names == ("cat", "dog")  # a folder without images is no class
    shards, skipped = shards_of(images)
    assert sum(map(len, shards)) == 3
    assert {entry.where.removeprefix(f"{root}/"): (entry.key, entry.images) for entry in skipped} == {
        "cat/text.png": (None, 1),
        "dog/empty.jpg": (None, 1),
        "dog/cut.png": (None, 1),
    }
    reasons = {entry.where.rpartition("/")[2]: entry.reason for entry in skipped}
    assert reasons["empty.jpg"] == "is empty"
    assert reasons["text.png"] == "is not a readable image (cannot identify image file)"
    assert {(entry.name, entry.reason) for entry in images.ignored} == {
        ("cat/.DS_Store", "hidden"),
        ("notes.txt", "not an image by its name"),
        ("dog/list.csv", "is not an image by its content"),
        ("doc/a.txt", "is not an image by its content"),
        ("loose.png", "lies in no class folder"),
    }


def test_files_that_vanish_or_change_between_listing_and_reading_are_listed(root):
    images = describe("train", settings(write(root, CATS_AND_DOGS)))
    stores.remove_tree(stores.join(root, "cat/1.png"))
    write(root, {"dog/1.png": encoded(width=400)})
    shards, skipped = shards_of(images)
    assert [sample.key for shard in shards for sample in shard] == ["cat/deep/er/2"]
    reasons = {entry.where.removeprefix(f"{root}/"): entry.reason for entry in skipped}
    assert reasons["cat/1.png"] == "does not exist"
    assert reasons["dog/1.png"].startswith(f"held {len(CATS_AND_DOGS['dog/1.png'])} bytes when listed, ")


FILE_NAMES = st.builds("{}/x{}.png".format, st.sampled_from(["a", "b", "c.d"]), st.text("ab.%25E", max_size=5))


@given(files=st.dictionaries(FILE_NAMES, st.booleans(), min_size=1, max_size=12), per_shard=st.integers(1, 5))
def test_every_image_is_in_exactly_one_shard_or_listed(files, per_shard):
    root = new_place("memory", None)
    write(root, {name: encoded() if good else b"bad" for name, good in files.items()})
    shards, skipped = shards_of(describe("train", settings(root)), per_shard)
    keys = [sample.key for shard in shards for sample in shard]
    assert len(keys) == len(set(keys)) == sum(files.values())
    assert {e.where.removeprefix(f"{root}/") for e in skipped} == {name for name, good in files.items() if not good}


def test_the_order_mixes_classes_and_depends_on_names_alone(tmp_path):
    names = [f"{cls}/{number:02d}.png" for cls in ("cat", "dog") for number in range(20)]
    orders = []
    for place, order in (("one", names), ("two", names[::-1])):
        root = write(str(tmp_path / place), {name: encoded() for name in order})
        shards, _ = shards_of(describe("train", settings(root)), per_shard=10)
        orders.append([[sample.key for sample in shard] for shard in shards])
    assert orders[0] == orders[1]
    for shard in orders[0]:
        assert 1 <= sum(key.startswith("cat/") for key in shard) <= 9


def test_the_address_follows_from_the_images_and_not_from_what_lies_beside_them(root):
    write(root, CATS_AND_DOGS)
    before = describe("train", settings(root)).listing
    assert describe("train", settings(root)).listing == before
    write(root, {"cat/notes.txt": "x"})
    assert describe("train", settings(root)).listing == before
    write(root, {"cat/new.png": encoded()})
    assert describe("train", settings(root)).listing != before


def test_names_that_are_no_text_are_listed_and_do_not_stop_the_rest(tmp_path):
    root = write(str(tmp_path), CATS_AND_DOGS)
    Path(os.fsdecode(os.fsencode(root) + b"/cat/caf\xe9.png")).write_bytes(encoded())
    images = describe("train", settings(root))
    shards, skipped = shards_of(images)
    assert sum(map(len, shards)) == 3
    assert [(entry.where, entry.reason) for entry in skipped] == [
        (f"{root}/cat/caf\\udce9.png", "has a name that is not UTF-8 text")
    ]
    assert images.listing


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"1.png": encoded()}, "holds images but no class folders; put each image into a folder named after its class"),
        ({"cat/notes.txt": "x"}, "holds no images in class folders"),
        (
            {"train/cat/1.png": encoded(), "val/cat/1.png": encoded()},
            "its folders are called train, val, which are splits",
        ),
    ],
)
def test_folders_that_hold_something_else_are_refused_with_the_remedy(root, files, complaint):
    with pytest.raises(UserError) as caught:
        describe("train", settings(write(root, files)))
    assert str(caught.value).startswith(f"{root}: {complaint}")


def test_a_place_that_does_not_exist_is_named(root):
    with pytest.raises(UserError, match="does not exist; give a folder with a folder for each class"):
        describe("train", settings(root, format="class_folders"))
    with pytest.raises(UserError, match="does not exist; give a folder of WebDataset shards, of class folders, "):
        describe("train", settings(root))
    write(root, {"notes.txt": "x"})
    with pytest.raises(UserError, match=r"holds no shards \(\*\.tar\) nor anything that shards are made from"):
        describe("train", settings(root))
    write(root, {"1.tar": "x"})
    assert describe("train", settings(root)) is None


def test_links_count_as_what_they_lead_to(tmp_path):
    write(str(tmp_path / "all"), CATS_AND_DOGS)
    root = tmp_path / "chosen"
    (root / "pet").mkdir(parents=True)
    (root / "cat").symlink_to(tmp_path / "all" / "cat")
    (root / "pet" / "one.png").symlink_to(tmp_path / "all" / "dog" / "1.png")
    (root / "pet" / "none.png").symlink_to(tmp_path / "none.png")
    (root / "pet" / "up").symlink_to(root)  # leads round in a circle
    images = describe("train", settings(str(root)))
    assert images.class_names == ("cat", "pet")
    shards, skipped = shards_of(images)
    assert {sample.key for shard in shards for sample in shard} == {"cat/1", "cat/deep/er/2", "pet/one"}
    assert [(e.where, e.reason) for e in skipped] == [
        (f"{root}/pet/none.png", "is a link to a file that does not exist")
    ]
    (root / "pet").rename(tmp_path / "pet")
    assert describe("train", settings(str(root))).class_names == ("cat",)  # nothing but links to folders
