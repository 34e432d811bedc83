"""A folder of images and a table of labels: each image under its row's label, everything else listed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from importing_data import encoded, labels_of, new_place, settings, shards_of, write

from dpt_ray.config.schema import DataConfig
from dpt_ray.data.importing.detect import describe
from dpt_ray.errors import UserError


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path) -> str:
    return new_place(request.param, tmp_path)


def table(root: str, text: str | bytes, **images: bytes) -> DataConfig:
    """Settings for a table, with images 1.png to 4.png."""
    write(root, {f"{number}.png": encoded() for number in range(1, 5)} | {"labels.csv": text})
    return settings(root, root, train_labels=f"{root}/labels.csv", test_labels=f"{root}/labels.csv")


def test_names_get_ids_in_sorted_order(root):
    data = table(root, "\ufefffile,label,note\n1.png,dog,x\n./2.png,cat,y\n3.png,dog,\n4.png,cat\n".encode())
    images = describe("train", data)
    assert images.kind == "csv"
    assert images.class_names == ("cat", "dog")
    assert labels_of(images) == {"1": 1, "2": 0, "3": 1, "4": 0}
    assert images.ignored == ()  # the table itself, too, is none


def test_whole_numbers_are_ids_and_an_empty_cell_means_unlabelled(root):
    images = describe("train", table(root, "file,label\n1.png,7\n2.png,0\n3.png,\n4.png, 10 \n"))
    assert images.class_names is None
    assert labels_of(images) == {"1": 7, "2": 0, "3": None, "4": 10}


def test_whole_numbers_with_a_list_of_names(root):
    images = describe(
        "train", table(root, "file,label\n1.png,1\n2.png,0\n").model_copy(update={"class_names": ("a", "b")})
    )
    assert images.class_names == ("a", "b")
    assert labels_of(images) == {"1": 1, "2": 0}


def test_columns_can_be_named_and_a_missing_one_is_answered_with_those_there_are(root):
    data = table(root, "Image Path , species\n1.png,cat\n2.png,dog\n")
    named = data.model_copy(update={"image_column": "Image Path", "label_column": "species"})
    assert labels_of(describe("train", named)) == {"1": 0, "2": 1}
    with pytest.raises(UserError) as caught:
        describe("train", data)
    assert str(caught.value) == (
        f"{root}/labels.csv: has no column 'file' (columns: 'Image Path', 'species'); set data.image_column"
    )
    with pytest.raises(UserError, match=r"has no column 'label' .*; set data\.label_column"):
        describe("train", data.model_copy(update={"image_column": "Image Path"}))


def test_rows_and_files_without_each_other_are_listed(root):
    write(root, {"notes.txt": "x", "also.txt": "x", "sub/5.png": encoded()})
    rows = ["1.png,cat", "gone.png,cat", ",dog", "notes.txt,dog", "2.png,dog", "3.png,cat", "3.png,dog", "2.png,dog"]
    images = describe("train", table(root, "file,label\n" + "\n".join(rows)))
    shards, skipped = shards_of(images)
    assert {sample.key for shard in shards for sample in shard} == {"1", "2"}
    assert [(entry.where.rpartition("/")[2], entry.key, entry.reason) for entry in skipped] == [
        ("labels.csv", "gone.png", "line 3 names a file that does not exist"),
        ("labels.csv", None, "line 4 names no file"),
        ("labels.csv", "notes.txt", "line 5 names a file that is no image by its name"),
        ("3.png", None, "has two labels in the table"),
    ]
    assert {(entry.name, entry.reason) for entry in images.ignored} == {
        ("4.png", "not in the table"),
        ("sub/5.png", "not in the table"),
        ("also.txt", "is not an image by its content"),
        ("2.png", "named again on line 9 of the table"),
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", r"has no column 'file' \(columns: none\)"),
        ("file,label\n", "lists no images"),
        (b"file,label\n\xff\xfe,1\n", "is not a readable CSV table"),
        ('file,label\n"1.png,cat\n', "is not a readable CSV table"),
        ("file;label\n1.png;cat\n", r"has no column 'file' \(columns: 'file;label'\)"),
    ],
)
def test_tables_that_cannot_be_read_are_refused_by_name(root, text, complaint):
    with pytest.raises(UserError, match=rf"labels\.csv: {complaint}"):
        describe("train", table(root, text))


def test_numbers_that_cannot_be_class_ids_are_refused(root):
    with pytest.raises(UserError, match=r"labels\.csv: has the class id 1000000; class ids count from 0, to 999999"):
        describe("train", table(root, "file,label\n1.png,1\n2.png,1000000\n"))
    write(root, {"a.png": encoded(), "b.png": encoded()})
    with pytest.raises(UserError, match=r"has the class id -1; .*leave the cells of unlabelled images empty"):
        describe("train", table(root, "file,label\na.png,1\nb.png,-1\n"))


def test_missing_tables_and_folders_are_named(root):
    with pytest.raises(UserError, match=r"none\.csv: does not exist"):
        describe("train", settings(root, train_labels=f"{root}/none.csv"))
    url = write(root, {"labels.csv": "file,label\n1.png,1\n"}) + "/labels.csv"
    with pytest.raises(
        UserError, match=r"/none: does not exist; give the folder of the images that .*labels\.csv lists"
    ):
        describe("train", settings(f"{root}/none", train_labels=url))


def test_the_address_follows_from_the_rows_that_count(root):
    first = describe("train", table(root, "file,label\n1.png,a\n2.png,b\n")).listing
    assert describe("train", table(root, "file,label\n2.png,b\n1.png,a\n")).listing != ""
    assert describe("train", table(root, "file,label\n1.png,b\n2.png,a\n")).listing != first


def test_a_table_beside_another_format_is_refused():
    for others in ({"format": "parquet"}, {"format": "shards"}):
        with pytest.raises(ValueError, match="train_labels is for data of the format csv"):
            settings("x", train_labels="labels.csv", **others)
    with pytest.raises(ValueError, match="train_labels and test_labels are needed for the format csv"):
        settings("x", format="csv", train_labels="labels.csv")


FILES = st.sampled_from([f"{number}.png" for number in range(8)])


@given(
    files=st.dictionaries(FILES, st.booleans(), min_size=1),
    rows=st.lists(st.tuples(FILES, st.sampled_from(["cat", "dog", ""])), min_size=1, max_size=10),
)
def test_every_image_and_every_row_is_in_a_shard_or_listed(files, rows):
    root = new_place("memory", None)
    write(root, {name: encoded() if good else b"bad" for name, good in files.items()})
    write(root, {"labels.csv": "file,label\n" + "".join(f"{name},{label}\n" for name, label in rows)})
    images = describe("train", settings(root, train_labels=f"{root}/labels.csv"))
    shards, skipped = shards_of(images)
    labels = {name: {label for row, label in rows if row == name} for name, _ in rows}
    kept = {f"{sample.key}.png": sample.label("x") for shard in shards for sample in shard}
    assert set(kept) == {name for name, good in files.items() if good and len(labels.get(name, ())) == 1}
    names = images.class_names or ()
    assert all(labels[name] == {names[label] if label is not None else ""} for name, label in kept.items())
    refused = {entry.key or entry.where.rpartition("/")[2] for entry in skipped}
    assert refused == set(labels) - set(kept)
    assert {entry.name for entry in images.ignored if entry.reason == "not in the table"} == set(files) - set(labels)
