"""Unlabelled images beside labelled ones: a folder `unlabelled`, and images that a table of labels does not list."""

import pytest
from importing_data import encoded, labels_of, new_place, settings, shards_of, write

from dpt_ray.data.importing.detect import describe
from dpt_ray.errors import UserError

FILES = {"Äpfel rot/1.png": encoded(), "birnen/2.png": encoded(), "Unlabelled/deep/3.png": encoded()}


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path) -> str:
    return new_place(request.param, tmp_path)


def test_images_of_the_folder_have_no_label_and_are_in_the_shards(root):
    images = describe("train", settings(write(root, FILES)))
    assert sorted(images.class_names) == sorted(["Äpfel rot", "birnen"])
    labels = labels_of(images)
    assert labels.pop("Unlabelled/deep/3") is None
    assert sorted(labels.values()) == [0, 1]
    shards, skipped = shards_of(images)
    assert (sum(map(len, shards)), skipped) == (3, [])


def test_another_unlabelled_image_changes_the_listing(root):
    write(root, FILES)
    before = describe("train", settings(root)).listing
    write(root, {"Unlabelled/4.png": encoded()})
    assert describe("train", settings(root)).listing != before


def test_a_class_of_that_name_stays_a_class_if_it_is_listed(root):
    listed = settings(write(root, {"unlabeled/1.png": encoded(), "b/2.png": encoded()}), class_names=("b", "unlabeled"))
    assert labels_of(describe("train", listed)) == {"b/2": 0, "unlabeled/1": 1}


def test_test_images_without_a_label_are_reported_and_left_out(root):
    train, test = f"{root}/train", f"{root}/test"
    write(train, FILES)
    write(test, FILES)
    images = describe("test", settings(train, test))
    assert set(labels_of(images).values()) == {0, 1}
    assert ("Unlabelled/", "holds images without a label, which test nothing") in {
        (entry.name, entry.reason) for entry in images.ignored
    }


def test_unlabelled_images_alone_are_no_classes(root):
    with pytest.raises(UserError, match="no images in class folders"):
        describe("train", settings(write(root, {"unlabelled/1.png": encoded()})))


def test_images_that_the_table_does_not_list_are_ignored_or_unlabelled(root):
    write(root, {f"{number}.png": encoded() for number in range(1, 5)} | {"few.csv": "file,label\n1.png,a\n2.png,b\n"})
    data = settings(root, None, train_labels=f"{root}/few.csv")
    ignored = describe("train", data)
    assert labels_of(ignored) == {"1": 0, "2": 1}
    assert {entry.name for entry in ignored.ignored} == {"3.png", "4.png"}
    kept = describe("train", data.model_copy(update={"unlisted": "unlabelled"}))
    assert labels_of(kept) == {"1": 0, "2": 1, "3": None, "4": None}
    assert kept.ignored == ()
    assert kept.listing != ignored.listing
