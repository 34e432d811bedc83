"""Parquet files that differ: classes joined by name, labels kept wherever they are, contradictions in one line."""

import io
import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from importing_data import encoded, labels_of, new_place, settings, shards_of, write

from dpt_ray.config.data_section import DataConfig
from dpt_ray.data.importing import parquet_file, parquet_footer
from dpt_ray.data.importing.detect import describe
from dpt_ray.errors import UserError

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def table(columns: dict[str, pa.Array], names: object = None, group: int = 1000) -> bytes:
    """A Parquet file, with names for the ids of the column `label` in its metadata, if any are given."""
    made = pa.table(columns)
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
        made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    buffer = io.BytesIO()
    pq.write_table(made, buffer, row_group_size=group)
    return buffer.getvalue()


def images(count: int, kind: pa.DataType = IMAGE) -> pa.Array:
    rows = [encoded(colour=row) for row in range(count)]
    return pa.array([{"bytes": row} for row in rows] if pa.types.is_struct(kind) else rows, kind)


def labelled(labels: list, names: object = None, kind: pa.DataType | None = None) -> bytes:
    return table({"image": images(len(labels)), "label": pa.array(labels, kind)}, names)


def unlabelled(count: int) -> bytes:
    return table({"image": images(count)})


def data(*files: bytes, test: str = "unused", **options) -> DataConfig:
    root = new_place("memory", None)
    return settings(write(root, {f"{number}.parquet": file for number, file in enumerate(files)}), test, **options)


def classes(found) -> list[str | None]:
    """The name of each row's class, in order."""
    names = found.class_names or tuple(map(str, range(1000)))
    return [None if label is None else names[label] for label in labels_of(found, per_shard=100).values()]


def complaint(described: DataConfig, split: str = "train") -> str:
    with pytest.raises(UserError) as caught:
        describe(split, described)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Names


def test_classes_are_joined_by_name_in_the_order_of_the_first_file():
    found = describe("train", data(labelled([0, 1], ["dog", "cat"]), labelled([0, 1], ["cat", "dog"])))
    assert found.class_names == ("dog", "cat")
    assert classes(found) == ["dog", "cat", "cat", "dog"]


def test_names_that_only_a_later_file_has_follow():
    found = describe("train", data(labelled([0, 1], ["dog", "cat"]), labelled([0, 1, 2], ["ant", "cat", "bee"])))
    assert found.class_names == ("dog", "cat", "ant", "bee")
    assert classes(found) == ["dog", "cat", "ant", "cat", "bee"]


def test_an_id_beyond_a_files_own_names_is_refused_though_other_files_have_more():
    found = describe("train", data(labelled([0, 2], ["dog", "cat"]), labelled([2], ["dog", "cat", "bee"])))
    assert classes(found) == ["dog", "bee"]
    assert [entry.reason for entry in shards_of(found)[1]] == ["has the class id 2; here they are 0 to 1"]


def test_numbers_with_names_and_text_are_joined():
    found = describe("train", data(labelled(["cat", "ant"]), labelled([0, 1], ["dog", "cat"])))
    assert found.class_names == ("dog", "cat", "ant")
    assert classes(found) == ["cat", "ant", "dog", "cat"]


def test_numbers_without_names_are_read_as_those_of_files_that_agree():
    found = describe(
        "train", data(labelled([1, 0]), labelled([0], ["dog", "cat"]), labelled([2], ["dog", "cat", "ant"]))
    )
    assert classes(found) == ["cat", "dog", "dog", "ant"]
    assert found.notes == ("the class ids of 0.parquet have no names; they are read as ids of 2.parquet",)
    line = complaint(data(labelled([1, 0]), labelled([0], ["dog", "cat"]), labelled([0], ["cat", "dog", "ant"])))
    assert all(f"/{number}.parquet" in line for number in range(3))
    assert "'label'" in line


def test_names_in_both_unicode_forms_are_one_class():
    found = describe("train", data(labelled([0], ["caf\u00e9", "dog"]), labelled([1, 0], ["dog", "cafe\u0301"])))
    assert found.class_names == ("caf\u00e9", "dog")
    assert classes(found) == ["caf\u00e9", "caf\u00e9", "dog"]
    found = describe("train", data(labelled(["caf\u00e9", " cafe\u0301 ", "dog"])))
    assert classes(found) == ["caf\u00e9", "caf\u00e9", "dog"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["cat", "dog", "cat"], "class names of the column 'label': lists the class 'cat' twice"),
        (["caf\u00e9", "cafe\u0301"], "twice, in two spellings that look the same"),
        (["cat", ""], "has an empty line among the class names"),
        (["cat", None], "has an empty line among the class names"),
        (["cat", "x" * 1000], "has a class name of 1,000 characters"),
        (["cat", "d\nog"], r"has the class name 'd\nog', which holds '\n'"),
    ],
)
def test_names_that_are_none_are_refused_with_their_file(names, words):
    line = complaint(data(labelled([0], ["cat", "dog"]), labelled([0], names)))
    assert "/1.parquet: class names" in line
    assert words in line


@pytest.mark.parametrize("names", [{"0": "cat"}, "cat", 3, []])
def test_names_of_another_form_are_left_aside(names):
    assert classes(describe("train", data(labelled([0, 1], names)))) == ["0", "1"]


def test_the_number_of_names_is_bounded(monkeypatch):
    monkeypatch.setattr("dpt_ray.data.importing.classes.MAX_CLASS_ID", 2)
    assert "names more than 3 classes" in complaint(data(labelled([0], list("abcd"))))


def test_test_data_is_joined_with_the_training_data_file_by_file():
    test = data(labelled([0, 1], ["cat", "dog"]), labelled([0], ["dog", "cat"]), labelled(["dog"])).train
    found = describe("test", data(labelled([0, 1], ["dog", "cat"]), test=test))
    assert found.class_names == ("dog", "cat")
    assert classes(found) == ["cat", "dog", "dog", "dog"]
    other = data(labelled([0], ["dog", "cat"]), labelled([0], ["dog", "ant"])).train
    line = complaint(data(labelled([0, 1], ["dog", "cat"]), test=other), "test")
    assert "/1.parquet: the class 'ant' is not one of the training data's" in line


def test_ids_of_test_data_without_names_are_said_to_be_the_training_datas():
    test = data(labelled([1, 0])).train
    found = describe("test", data(labelled([0, 1], ["dog", "cat"]), test=test))
    assert classes(found) == ["cat", "dog"]
    assert "the class ids of 0.parquet have no names; they are read as ids of the training data's" in found.notes[0]


def test_a_list_of_classes_brings_text_and_numbers_together():
    described = data(labelled(["cat", "dog"]), labelled([0, 1]))
    assert classes(describe("train", described.model_copy(update={"class_names": ("dog", "cat")}))) == [
        "cat",
        "dog",
        "dog",
        "cat",
    ]


# Labels that only some files have


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("empty", [unlabelled(3), labelled([None] * 3, kind=pa.null())])
def test_files_without_labels_are_unlabelled_and_the_others_keep_theirs(first, empty):
    files = [empty, labelled([0, 1], ["dog", "cat"])]
    found = describe("train", data(*(files if first else files[::-1])))
    assert sorted(map(str, classes(found))) == ["None"] * 3 + ["cat", "dog"]
    assert found.notes == (
        f"3 images of {0 if first else 1}.parquet are unlabelled: the column 'label' is absent or empty",
    )


def test_several_files_without_labels_make_one_note():
    found = describe("train", data(unlabelled(1), unlabelled(2), labelled([0]), unlabelled(3)), None)
    assert found.notes == (
        "6 images of 0.parquet and 2 more files are unlabelled: the column 'label' is absent or empty",
    )
    (note,) = describe("train", data(table({"image": images(1), "breed": pa.array(["a"])}))).notes
    assert "(columns: 'image', 'breed'; data.label_column names it)" in note


def test_a_named_column_of_labels_may_be_absent_from_some_files_but_not_from_all():
    with_breed = table({"image": images(2), "breed": pa.array(["pug", "cat"])})
    assert classes(describe("train", data(unlabelled(1), with_breed, label_column="breed"))) == [None, "pug", "cat"]
    assert "has no column 'breed'" in complaint(data(unlabelled(1), label_column="breed"))


def test_missing_values_among_names_are_counted():
    found = describe("train", data(labelled(["cat", "nan", None, "", "dog"])))
    assert found.class_names == ("cat", "dog")
    assert classes(found) == ["cat", None, None, None, "dog"]
    assert found.notes[0].startswith("3 of 5 images of memory://")
    assert "(2 empty, 1 'nan')" in found.notes[0]


def test_text_that_is_all_missing_names_no_class():
    found = describe("train", data(labelled(["", None, "NA"]), num_classes=2))
    assert found.class_names is None
    assert classes(found) == [None] * 3


def test_files_without_rows_decide_nothing():
    empty = table({"image": pa.array([], pa.string()), "label": pa.array([], pa.float64())})
    found = describe("train", data(empty, labelled(["cat", "dog"])))
    assert classes(found) == ["cat", "dog"]
    assert found.notes == ()


# Types


@pytest.mark.parametrize(
    ("labels", "right"),
    [
        (pa.array([0, 1, None], pa.int8()), ["0", "1", None]),
        (pa.array([0, 1, -1], pa.int16()), ["0", "1", None]),
        (pa.array([0, 1, 3], pa.uint64()), ["0", "1", "3"]),
        (pa.array([False, True, None]), ["0", "1", None]),
        (pa.array([0.0, 1.0, float("nan")]), ["0", "1", None]),
        (pa.array([0.0, -1.0, None], pa.float32()), ["0", None, None]),
        (pa.array([0, 1, 2], pa.float16()), ["0", "1", "2"]),
        (pa.array([Decimal("0.00"), Decimal("1.00"), None]), ["0", "1", None]),
        (pa.array([3, 3, 0]).dictionary_encode(), ["3", "3", "0"]),
    ],
)
def test_numbers_of_any_type_are_ids_if_they_are_whole(labels, right):
    assert classes(describe("train", data(table({"image": images(3), "label": labels})))) == right


def test_numbers_as_text_are_ordered_by_value():
    found = describe("train", data(labelled(["10.0", "2.0", "1.0"])))
    assert found.class_names == ("1", "2", "10")
    assert classes(found) == ["10", "2", "1"]


@pytest.mark.parametrize("value", [0.5, float("inf"), 1e300, Decimal("1.25")])
def test_fractions_are_refused_before_anything_is_written(value):
    line = complaint(data(labelled([0, 1]), labelled([value, value])))
    assert "/1.parquet: its column 'label' holds neither class ids nor names but d" in line
    assert f"{value:g} is no whole number" in line


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (pa.array([[0, 1], [1]]), "several labels for each image: list<"),
        (pa.array([{"id": 0}, {"id": 1}]), "neither class ids nor names but struct<"),
        (pa.array([b"cat", b"dog"]), "neither class ids nor names but binary"),
        (pa.array([0, 1], pa.timestamp("ms")), "neither class ids nor names but timestamp[ms]"),
    ],
)
def test_labels_of_other_types_are_one_line(labels, words):
    other = table({"image": images(2), "label": labels})
    assert f"its column 'label' holds {words}" in complaint(data(other))
    line = complaint(data(labelled([0, 1]), other))
    assert "/1.parquet: its column 'label' holds" in line
    assert "unlike that of memory://" in line
    assert "/0.parquet;" in line


def test_text_beside_numbers_without_names_is_one_line_with_both_files():
    for files in ([labelled(["cat", "dog"]), labelled([0, 1])], [labelled([0, 1]), labelled(["cat", "dog"])]):
        line = complaint(data(*files))
        assert "/0.parquet" in line
        assert "/1.parquet" in line
        assert "its column 'label' holds class ids without names (int64)" in line


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view(), IMAGE])
def test_images_as_bytes_of_any_type_are_read_together(kind):
    wide = pa.struct([("extra", pa.int8()), ("bytes", pa.large_binary()), ("more", pa.list_(pa.string()))])
    files = [table({"image": images(2, each), "label": pa.array([0, 1])}) for each in (kind, wide)]
    found = describe("train", data(*files))
    shards, skipped = shards_of(found, per_shard=9)
    assert [sample.files["png"] for shard in shards for sample in shard] == [encoded(colour=0), encoded(colour=1)] * 2
    assert skipped == []


@pytest.mark.parametrize(
    "column",
    [pa.array(["a.png", "b.png"]), pa.array([[1, 2], [3]], pa.list_(pa.uint8())), pa.array([None, None])],
)
def test_images_of_other_types_are_one_line_with_both_files(column):
    other = table({"image": column, "label": pa.array([0, 1])})
    line = complaint(data(labelled([0, 1]), other))
    assert "/1.parquet: its column 'image' holds no images but" in line
    assert "/0.parquet; " in line
    assert "its column 'image' holds no images but" in complaint(data(other))


def test_columns_may_stand_in_another_order_and_beside_others():
    other = table({"label": pa.array([1]), "note": pa.array(["x"]), "image": images(1), "n": pa.array([1.5])})
    assert classes(describe("train", data(labelled([0]), other))) == ["0", "1"]


def test_a_column_of_images_that_one_file_alone_leaves_open_is_that_of_the_others():
    masks = table({"image": images(1), "mask": images(1), "label": pa.array([1])})
    assert classes(describe("train", data(masks, labelled([0])))) == ["1", "0"]


def test_columns_with_other_names_are_one_line_with_both_files():
    line = complaint(data(table({"image": images(1)}), table({"img": images(1)})))
    assert "/1.parquet: its images are in the column 'img', those of memory://" in line
    assert "/0.parquet in 'image'" in line
    breed = table({"image": images(1), "breed": pa.array([0])}, ["dog"])
    content = pq.read_table(io.BytesIO(breed)).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": {"breed": {"_type": "ClassLabel", "names": ["dog"]}}}})}
    )
    pq.write_table(content, buffer := io.BytesIO())
    line = complaint(data(labelled([0]), buffer.getvalue()))
    assert "its labels are in the column 'breed'" in line
    assert "'label'" in line
    assert "has no column 'image', unlike that of" in complaint(data(labelled([0]), table({"x": pa.array([1])})))


def test_two_columns_of_one_name_are_one_line():
    made = pa.Table.from_arrays([images(1), pa.array([0]), pa.array([1])], ["image", "label", "label"])
    pq.write_table(made, buffer := io.BytesIO())
    assert "has 2 columns called 'label'" in complaint(data(buffer.getvalue()))


def test_names_of_columns_may_hold_dots_and_spaces():
    made = table({"my.image": images(2), "the label": pa.array(["cat", "dog"])})
    assert classes(describe("train", data(made, label_column="the label"))) == ["cat", "dog"]
    made = table({"my.image": images(2), "the.label": pa.array([1.0, 0.0])})
    assert classes(describe("train", data(made, label_column="the.label"))) == ["1", "0"]


# Ids without names


def test_ids_with_most_classes_missing_are_refused_unless_their_number_is_given():
    described = data(labelled([0]), labelled([119789]))
    assert "has the class ids 0, 119789, which leave 119,788 of the 119,790 ids" in complaint(described)
    found = describe("train", described.model_copy(update={"num_classes": 119_790}))
    assert list(labels_of(found).values()) == [0, 119789]
    line = complaint(described.model_copy(update={"num_classes": 5}))
    assert "has the class id 119789 but data.num_classes is 5" in line


def test_statistics_spare_a_look_at_small_ids(monkeypatch):
    described = data(labelled([3, None, 99]), labelled([7]))
    read = []
    monkeypatch.setattr("dpt_ray.data.importing.parquet_labels.count_values", lambda *_: read.append(1) or {})
    describe("train", described)
    assert read == []


def test_ids_are_read_where_there_are_no_statistics():
    made = pa.table({"image": images(2), "label": pa.array([0, 500])})
    pq.write_table(made, buffer := io.BytesIO(), write_statistics=False)
    assert "has the class ids 0, 500, which leave" in complaint(data(buffer.getvalue()))


# Bounds and damage


def test_a_column_of_long_texts_is_no_label(monkeypatch):
    assert "has a class name of 600 characters" in complaint(data(labelled(["x" * 600, "y"])))
    assert "a text of 2,000 characters, which are no labels" in complaint(data(labelled(["x" * 2000, "y"])))
    assert classes(describe("train", data(labelled([f"cat{' ' * 600}", "y"])))) == ["cat", "y"]
    with monkeypatch.context() as patch:
        patch.setattr(parquet_footer, "MAX_DIFFERENT_CHARACTERS", 3)
        assert classes(describe("train", data(labelled(["ab"] * 9 + ["c"], kind=pa.large_string())))) == ["ab"] * 9 + [
            "c"
        ]
        assert "different texts of more than 4 characters" in complaint(data(labelled(["ab", "cd"])))
    monkeypatch.setattr(parquet_footer, "MAX_LABEL_BYTES", 10)
    assert "its column 'label' holds 0 MiB in one row group, which are no labels" in complaint(
        data(labelled(["a", "b"]))
    )


def test_too_many_different_labels_are_refused(monkeypatch):
    monkeypatch.setattr("dpt_ray.data.importing.parquet_footer.MAX_CLASS_ID", 1)
    assert "more than 2 different values" in complaint(data(labelled(["a", "b", "c", "d"])))


def test_names_of_whole_row_groups_count_where_others_are_damaged():
    made = {"image": images(4), "label": pa.array(["a", "b", "c", "d"])}
    content = bytearray(table(made, group=2))
    chunk = pq.read_metadata(io.BytesIO(bytes(content))).row_group(0).column(2)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    found = describe("train", data(bytes(content)))
    assert found.class_names == ("c", "d")
    shards, skipped = shards_of(found, per_shard=2)
    assert [sample.key for shard in shards for sample in shard] == ["0-00002", "0-00003"]
    assert sum(entry.images for entry in skipped) == 2


def test_where_the_store_does_not_answer_no_label_is_taken_for_damaged(monkeypatch):
    described = data(labelled(["cat", "dog"]))

    def fail(*_, **__):
        raise OSError("no answer")

    def fail_for_good(url):
        raise UserError("the store does not answer", where=url)

    monkeypatch.setattr(parquet_file.pq, "ParquetFile", fail)
    monkeypatch.setattr("dpt_ray.data.storage.stores.exists", fail_for_good)
    assert "the store does not answer" in complaint(described)


def test_a_pointer_of_git_lfs_is_called_so():
    line = complaint(data(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"))
    assert "is not a readable Parquet file but a Git LFS pointer, not the file itself: run `git lfs pull`" in line


def test_a_label_that_changed_since_is_listed():
    described = data(labelled(["cat", "dog"]))
    found = describe("train", described)
    write(described.train, {"0.parquet": labelled(["cat", "emu"])})
    assert [entry.reason for entry in shards_of(found)[1]] == [
        "has the label 'emu', which it did not have when the labels were read"
    ]


# Pairs of schemas

IMAGES = {
    "binary": pa.binary(),
    "large": pa.large_binary(),
    "struct": IMAGE,
    "wide": pa.struct([("path", pa.large_string()), ("bytes", pa.large_binary()), ("n", pa.int8())]),
    "paths": pa.string(),
    "list": pa.list_(pa.uint8()),
}
LABELS = {
    "absent": None,
    "int8": pa.array([0, 1], pa.int8()),
    "uint64": pa.array([1, None], pa.uint64()),
    "hidden": pa.array([-1, -1]),
    "bool": pa.array([True, False]),
    "whole": pa.array([1.0, float("nan")]),
    "fraction": pa.array([0.5, 1.0]),
    "decimal": pa.array([Decimal("1.0"), Decimal("0.0")]),
    "text": pa.array(["cat", "dog"]),
    "large text": pa.array(["emu", "None"], pa.large_string()),
    "category": pa.array(["dog", "cat"]).dictionary_encode(),
    "number as text": pa.array(["0", "1"]),
    "numbers as category": pa.array([1, 0]).dictionary_encode(),
    "null": pa.array([None, None]),
    "list": pa.array([[0], [1]]),
    "struct": pa.array([{"a": 0}, {"a": 1}]),
    "binary": pa.array([b"cat", b"dog"]),
}
NAMES = [None, ["cat", "dog"], ["dog", "cat"], ["cat", "dog", "emu"], ["cat", "cat"]]

FILE = st.fixed_dictionaries(
    {
        "image": st.sampled_from(list(IMAGES)),
        "label": st.sampled_from(list(LABELS)),
        "names": st.sampled_from(NAMES),
        "column": st.sampled_from(["image", "image", "image", "img"]),
        "last": st.booleans(),
        "extra": st.booleans(),
    }
)


def written(form: dict) -> bytes:
    kind = IMAGES[form["image"]]
    if form["image"] in ("paths", "list"):
        column = pa.array(["a.png", "b.png"] if form["image"] == "paths" else [[1], [2]], kind)
    else:
        column = images(2, kind)
    columns = {form["column"]: column}
    if LABELS[form["label"]] is not None:
        columns["label"] = LABELS[form["label"]]
    if form["extra"]:
        columns["extra"] = pa.array([{"x": 1}, {"x": 2}])
    return table(dict(reversed(columns.items())) if form["last"] else columns, form["names"])


def meant(form: dict) -> list:
    """What the labels of a file say: names, numbers, or None."""
    column = LABELS[form["label"]]
    said = [None, None] if column is None else column.to_pylist()
    said = [None if value in (None, "None", -1) or value != value else value for value in said]
    if form["names"] and form["label"] not in TEXT:
        return [None if value is None else form["names"][int(value)] for value in said]
    return [value if isinstance(value, str | None) else int(value) for value in said]


def contradict(forms: list[dict]) -> bool:
    """Whether files cannot be read together, or one of them cannot be read at all."""
    if any(form["image"] in ("paths", "list") or form["label"] in UNUSABLE for form in forms):
        return True
    text = [form for form in forms if form["label"] in TEXT]
    numbers = [form for form in forms if form["label"] not in (*TEXT, "absent", "null")]
    listed = [form["names"] for form in numbers if form["names"]]
    if ["cat", "cat"] in listed or len({form["column"] for form in forms}) > 1:
        return True
    if len(listed) == len(numbers):
        return False
    longest = max(listed, key=len, default=[])
    return (not listed and bool(text)) or any(names != longest[: len(names)] for names in listed)


TEXT = ("text", "large text", "category", "number as text")
UNUSABLE = ("fraction", "list", "struct", "binary")


@settings_of_hypothesis(max_examples=80)
@given(st.lists(FILE, min_size=1, max_size=3))
def test_any_files_together_are_read_rightly_or_refused_in_a_line(forms):
    described = data(*map(written, forms))
    if contradict(forms):
        assert described.train in complaint(described)
        return
    found = describe("train", described)
    shards, skipped = shards_of(found, per_shard=2)
    assert skipped == []
    read = [sample.label("") for shard in shards for sample in shard]
    assert len(read) == 2 * len(forms)
    shown = [label if label is None or not found.class_names else found.class_names[label] for label in read]
    right = [label for form in forms for label in meant(form)]
    if found.class_names and any(isinstance(label, int) for label in right):
        assert "have no names; they are read as" in " ".join(found.notes)
        named = [form["names"] for form in forms if form["names"] and form["label"] not in (*TEXT, "absent", "null")]
        longest = max(named, key=len)
        right = [longest[label] if isinstance(label, int) else label for label in right]
    assert shown == right
