"""Parquet tables as the Hugging Face hub serves them: the right columns, every row once, only the needed row groups."""

import io
import json
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from importing_data import encoded, labels_of, new_place, settings, shards_of, write

from dpt_ray.data.importing.detect import describe
from dpt_ray.data.importing.parquet_file import image_leaf, open_parquet
from dpt_ray.data.importing.parquet_metadata import read_row_groups
from dpt_ray.data.importing.parquet_pages import walk_pages
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path) -> str:
    return new_place(request.param, tmp_path)


def table(columns: dict[str, pa.Array], features: dict | None = None, group: int = 1000) -> bytes:
    """A Parquet file, with Hugging Face's metadata if features are given."""
    made = pa.table(columns)
    if features is not None:
        made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    buffer = io.BytesIO()
    pq.write_table(made, buffer, row_group_size=group)
    return buffer.getvalue()


def images(count: int) -> pa.Array:
    return pa.array([{"bytes": encoded(colour=row), "path": f"{row}.png"} for row in range(count)], IMAGE)


def hub_table(count: int = 5, group: int = 1000) -> bytes:
    """A table as the hub has it: two more columns, images and a class label under other names than usual."""
    columns = {
        "id": pa.array([b"%d" % row for row in range(count)]),
        "img": images(count),
        "kind": pa.array([row % 2 for row in range(count)]),
        "note": pa.array(["x"] * count),
    }
    features = {
        "id": {"dtype": "binary", "_type": "Value"},
        "img": {"_type": "Image"},
        "kind": {"names": ["dog", "cat"], "_type": "ClassLabel"},
    }
    return table(columns, features, group)


def test_metadata_tells_the_columns_and_the_classes(root):
    found = describe("train", settings(write(root, {"train-00000-of-00001.parquet": hub_table()})))
    assert found.kind == "parquet"
    assert found.class_names == ("dog", "cat")
    assert labels_of(found) == {f"train-00000-of-00001-{row:05d}": row % 2 for row in range(5)}
    shards, skipped = shards_of(found)
    assert [sample.files["png"] for shard in shards for sample in shard] == [encoded(colour=row) for row in range(5)]
    assert skipped == []


@given(
    files=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 5)), min_size=1, max_size=3),
    per_shard=st.integers(1, 7),
)
def test_every_row_is_in_exactly_one_shard_in_order_whatever_the_row_groups(files, per_shard):
    root = new_place("memory", None)
    write(root, {f"{number}.parquet": hub_table(count, group) for number, (count, group) in enumerate(files)})
    shards, skipped = shards_of(describe("train", settings(root)), per_shard)
    assert [sample.key for shard in shards for sample in shard] == [
        f"{number}-{row:05d}" for number, (count, _) in enumerate(files) for row in range(count)
    ]
    assert all(len({sample.key.partition("-")[0] for sample in shard}) == 1 for shard in shards)
    assert skipped == []


def test_only_the_row_groups_that_a_range_touches_are_named(root):
    found = describe("train", settings(write(root, {"a.parquet": hub_table(10, group=3)})))
    touched = [(recipe["groups"], recipe["first_row"]) for recipe in found.recipes(4)]
    assert touched == [([0, 1], 0), ([1, 2], 3), ([2, 3], 6)]


def test_a_file_a_folder_and_a_pattern_can_be_named(root):
    write(root, {f"{split}-{number}.parquet": hub_table(2) for split in ("train", "test") for number in range(2)})
    assert len(labels_of(describe("train", settings(f"{root}/train-*.parquet")))) == 4
    assert list(labels_of(describe("train", settings(f"{root}/test-1.parquet")))) == ["test-1-00000", "test-1-00001"]
    with pytest.raises(UserError) as caught:
        describe("train", settings(root))
    assert str(caught.value) == (
        f"{root}: holds Parquet files of several splits (test, train); "
        f"name one of them: {root}/test-*.parquet or {root}/train-*.parquet"
    )
    with pytest.raises(UserError, match=r"none\.parquet: does not exist"):
        describe("train", settings(f"{root}/none.parquet"))


def test_plain_binary_images_and_named_labels(root):
    labels = pa.array(["dog", "cat", None, "", "dog"]).dictionary_encode()
    columns = {"picture": pa.array([encoded(form="JPEG")] * 5), "label": labels}
    found = describe("train", settings(write(root, {"a.b.parquet": table(columns)})))
    assert found.class_names == ("cat", "dog")
    assert list(labels_of(found).items()) == [
        ("a%2Eb-00000", 1),
        ("a%2Eb-00001", 0),
        ("a%2Eb-00002", None),
        ("a%2Eb-00003", None),
        ("a%2Eb-00004", 1),
    ]
    assert "jpg" in shards_of(found)[0][0][0].files  # the format is that of the content


def test_labels_may_be_absent_or_hidden_and_ids_stay(root):
    without = describe("train", settings(write(f"{root}/a", {"a.parquet": table({"image": images(2)})})))
    assert list(labels_of(without).values()) == [None, None]
    columns = {"image": images(4), "label": pa.array([3, -1, None, 0])}
    found = describe("train", settings(write(f"{root}/b", {"a.parquet": table(columns)})))
    assert found.class_names is None
    assert list(labels_of(found).values()) == [3, None, None, 0]


def test_ids_follow_the_names_of_the_training_data(root):
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    test = table({"image": images(2), "label": pa.array([0, 1])}, features)
    data = settings(write(f"{root}/a", {"a.parquet": hub_table()}), write(f"{root}/b", {"a.parquet": test}))
    found = describe("test", data)
    assert found.class_names == ("dog", "cat")
    assert list(labels_of(found).values()) == [1, 0]


def test_rows_that_cannot_be_used_are_listed(root):
    rows = [
        {"bytes": None, "path": "/data/1.png"},
        None,
        {"bytes": b"", "path": None},
        {"bytes": b"no image", "path": None},
        {"bytes": encoded(), "path": None},
        {"bytes": encoded(), "path": None},
    ]
    columns = {"image": pa.array(rows, IMAGE), "label": pa.array([0, 0, 0, 0, 9, 1])}
    features = {"label": {"names": ["dog", "cat"], "_type": "ClassLabel"}}
    found = describe("train", settings(write(root, {"a.parquet": table(columns, features)})))
    shards, skipped = shards_of(found, per_shard=10)
    assert [sample.key for sample in shards[0]] == ["a-00005"]
    assert {entry.key: entry.reason for entry in skipped} == {
        "a-00000": "has no bytes, only the path '/data/1.png', which is not followed",
        "a-00001": "has no image",
        "a-00002": "is empty",
        "a-00003": "is not a readable image (cannot identify image file)",
        "a-00004": "has the class id 9; here they are 0 to 1",
    }
    assert {entry.where for entry in skipped} == {f"{root}/a.parquet"}


def test_damaged_files_are_listed_with_the_images_that_are_lost(root):
    whole = hub_table(6, group=2)
    write(root, {"a.parquet": whole, "b.parquet": whole[:-20], "c.parquet": b"", "d.parquet": whole})
    found = describe("train", settings(root))
    lost = [(entry.where.rpartition("/")[2], entry.images) for entry in found.refused]
    assert lost == [("b.parquet", 6), ("c.parquet", 6)]
    write(root, {"a.parquet": b"PAR1" + bytes(len(whole) - 4)})
    shards, skipped = shards_of(found, per_shard=3)
    assert [sample.key for shard in shards for sample in shard] == [f"d-{row:05d}" for row in range(6)]
    assert [(e.where.rpartition("/")[2], e.images) for e in skipped if e not in found.refused] == [("a.parquet", 3)] * 2
    assert all("is not a readable Parquet file" in entry.reason for entry in skipped)


def test_a_damaged_row_group_loses_its_rows_only(root):
    rng_bytes = pa.array([bytes(encoded(width=row + 1)) for row in range(6)])
    content = bytearray(table({"image": rng_bytes}, group=2))
    start = pq.read_metadata(io.BytesIO(bytes(content))).row_group(1).column(0)
    first = start.dictionary_page_offset or start.data_page_offset
    content[first : first + start.total_compressed_size] = b"\xff" * start.total_compressed_size
    found = describe("train", settings(write(root, {"a.parquet": bytes(content)})))
    shards, skipped = shards_of(found, per_shard=2)
    assert [sample.key for shard in shards for sample in shard] == ["a-00000", "a-00001", "a-00004", "a-00005"]
    assert sum(entry.images for entry in skipped) == 2


def test_arrow_gets_no_bytes_behind_a_page_whose_header_is_not_read(tmp_path):
    content = bytearray(table({"image": pa.array([bytes(encoded(width=row + 1)) for row in range(6)])}))
    column = pq.read_metadata(io.BytesIO(bytes(content))).row_group(0).column(0)
    begin, size = column.dictionary_page_offset, column.total_compressed_size
    pages = walk_pages(bytes(content[begin : begin + size]), column.num_values, "image", 1 << 20)
    assert pages.stop == size
    content[column.data_page_offset] = 0xFF  # the header of the second page
    (tmp_path / "a.parquet").write_bytes(content)
    with open_parquet(str(tmp_path / "a.parquet")) as file:
        file.load(0, [image_leaf("image")])
        file._chunks.seek(begin)
        given = file._chunks.read(size)
    read = column.data_page_offset - begin
    assert given == content[begin : begin + read] + bytes(size - read)


def test_names_that_are_no_text_are_damage(root):
    whole = hub_table()
    write(root, {"a.parquet": whole, "b.parquet": whole.replace(b"note", b"\xff\xfeno")})
    found = describe("train", settings(root))
    assert [(entry.where.rpartition("/")[2], entry.images) for entry in found.refused] == [("b.parquet", 5)]
    assert "UnicodeDecodeError" in found.refused[0].reason
    with pytest.raises(UserError, match=r"b\.parquet: is not a readable Parquet file"):
        describe("train", settings(f"{root}/b.parquet"))


@pytest.mark.parametrize("text", [b"bird", b"2.png"])
def test_rows_whose_texts_are_not_utf8_are_listed_and_the_others_are_read(root, text):
    buffer = io.BytesIO()
    labels = pa.array(["dog", "cat", "bird", "dog"])
    pq.write_table(pa.table({"image": images(4), "label": labels}), buffer, compression="none", write_statistics=False)
    content = buffer.getvalue()
    assert content.count(text) == 1
    found = describe("train", settings(write(root, {"a.parquet": content.replace(text, b"\xff" + text[1:])})))
    shards, skipped = shards_of(found)
    read = {sample.key: found.class_names[sample.label("shard")] for shard in shards for sample in shard}
    assert read == {"a-00000": "dog", "a-00001": "cat", "a-00003": "dog"}
    assert [entry.reason for entry in skipped] == ["has a label or a path that is not UTF-8 text"]


def footer_of(data: bytes) -> tuple[bytes, pq.FileMetaData]:
    """A file's footer, and what pyarrow reads from it."""
    return data[-8 - int.from_bytes(data[-8:-4], "little") : -8], pq.read_metadata(io.BytesIO(data))


def changed(footer: pq.FileMetaData, place: int, **fields) -> SimpleNamespace:
    """The same footer with another description of a column in its schema."""
    names = ("path", "physical_type", "converted_type", "max_repetition_level", "max_definition_level")
    columns = [
        SimpleNamespace(**{name: getattr(footer.schema.column(number), name) for name in names})
        for number in range(footer.num_columns)
    ]
    vars(columns[place]).update(fields)
    return SimpleNamespace(
        num_columns=len(columns),
        num_row_groups=footer.num_row_groups,
        schema=SimpleNamespace(column=columns.__getitem__),
    )


def test_columns_at_which_pyarrow_ends_the_process_are_refused():
    content, footer = footer_of(hub_table())
    assert list(read_row_groups(content, footer)[0]) == ["id", "img.bytes", "img.path", "kind", "note"]
    for column in range(5):
        level = footer.schema.column(column).max_definition_level
        with pytest.raises(ValueError, match=f"size statistics of column {column} with {level + 1} levels"):
            read_row_groups(content, changed(footer, column, max_definition_level=level + 1))
        other = "INT32" if column == 3 else "FIXED_LEN_BYTE_ARRAY"
        with pytest.raises(ValueError, match=f"column {column} does not fit the schema"):
            read_row_groups(content, changed(footer, column, physical_type=other))
        with pytest.raises(ValueError, match=f"column {column} does not fit the schema"):
            read_row_groups(content, changed(footer, column, path="other"))
    numbers = footer_of(table({"a": pa.array([1, 2])}))
    texts = footer_of(table({"a": pa.array(["x", "y"])}))
    assert texts[0].count(b"\x15\x0c") == 2  # its type, BYTE_ARRAY, in the schema and in the column
    with pytest.raises(ValueError, match="column 0 with bytes of texts, of which it holds none"):
        read_row_groups(texts[0].replace(b"\x15\x0c", b"\x15\x04"), numbers[1])
    for stop in range(len(content)):
        with pytest.raises(ValueError, match=r"."):
            read_row_groups(content[:stop], footer)


@pytest.mark.parametrize("kind", [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint16(), pa.uint32(), pa.uint64()])
@pytest.mark.parametrize("values", [[3, None, 100], [None, None], []])
def test_columns_are_what_pyarrow_says_of_them(kind, values):
    data = table({"id": pa.array(values, kind), "image": images(len(values))}, group=2)
    content, footer = footer_of(data)
    groups = read_row_groups(content, footer)
    assert len(groups) == footer.num_row_groups
    for number, group in enumerate(groups):
        for place, (path, column) in enumerate(group.items()):
            theirs = footer.row_group(number).column(place)
            assert (path, column.path) == (theirs.path_in_schema, theirs.path_in_schema)
            assert (column.values, column.compressed) == (theirs.num_values, theirs.total_compressed_size)
            assert column.start == min(theirs.data_page_offset, theirs.dictionary_page_offset or 1 << 40)
            statistics = theirs.statistics
            assert column.nulls == (statistics and statistics.null_count)
            known = path == "id" and statistics is not None and statistics.has_min_max
            assert column.largest == (statistics.max if known else None)


def test_rows_that_a_footer_promises_and_a_file_lacks_are_listed(root):
    found = describe("train", settings(write(root, {"a.parquet": hub_table(4)})))
    write(root, {"a.parquet": hub_table(3)})
    _, skipped = shards_of(found, per_shard=4)
    assert [(entry.images, "are not in the file" in entry.reason) for entry in skipped] == [(1, True)]


def test_a_table_that_is_gone_is_listed(root):
    found = describe("train", settings(write(root, {"a.parquet": hub_table(4)})))
    stores.remove_tree(stores.join(root, "a.parquet"))
    _, skipped = shards_of(found, per_shard=4)
    assert [(entry.key, entry.images) for entry in skipped] == [(None, 4)]


@pytest.mark.parametrize(
    ("columns", "options", "complaint"),
    [
        ({"a": pa.array([1])}, {}, r"has no image column \(columns: 'a'\); set data\.image_column"),
        ({"a": images(1), "b": images(1)}, {}, r"has several image columns: a, b .*; set data\.image_column"),
        ({"a": images(1)}, {"image_column": "x"}, r"has no column 'x' \(columns: 'a'\); set data\.image_column"),
        ({"a": pa.array([1.5])}, {"image_column": "a"}, r"its column 'a' holds no images but double"),
        ({"a": images(1)}, {"label_column": "x"}, r"has no column 'x' \(columns: 'a'\); set data\.label_column"),
        (
            {"a": images(1), "label": pa.array([1.5])},
            {},
            "its column 'label' holds neither class ids nor",
        ),
    ],
)
def test_columns_that_do_not_fit_are_refused_with_those_there_are(root, columns, options, complaint):
    write(root, {"a.parquet": table(columns)})
    with pytest.raises(UserError, match=rf"a\.parquet: {complaint}"):
        describe("train", settings(root, **options))


def test_several_class_labels_are_for_the_user_to_choose_from(root):
    columns = {"img": images(2), "fine": pa.array([0, 1]), "coarse": pa.array([1, 0])}
    features = {name: {"names": ["a", "b"], "_type": "ClassLabel"} for name in ("fine", "coarse")}
    write(root, {"a.parquet": table(columns, features)})
    with pytest.raises(UserError, match=r"has several label columns: fine, coarse .*; set data\.label_column"):
        describe("train", settings(root))
    assert list(labels_of(describe("train", settings(root, label_column="coarse"))).values()) == [1, 0]


def test_a_folder_of_broken_tables_only_is_refused(root):
    with pytest.raises(UserError, match=r"a\.parquet: is not a readable Parquet file"):
        describe("train", settings(write(root, {"a.parquet": b"x"})))


def test_metadata_of_another_form_is_left_aside(root):
    for features in ([1], {"image": 3}, "x"):
        found = describe("train", settings(write(root, {"a.parquet": table({"image": images(1)}, features)})))
        assert len(labels_of(found)) == 1


def test_where_the_store_does_not_answer_nothing_is_taken_for_lost(root, monkeypatch):
    data = settings(write(root, {"a.parquet": hub_table(4)}))
    found = describe("train", data)

    def fail(url: str):
        raise UserError("the store does not answer", where=url)

    monkeypatch.setattr(stores, "filesystem", fail)
    with pytest.raises(UserError, match="the store does not answer"):
        shards_of(found)
