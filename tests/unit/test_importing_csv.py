"""A folder of images and a table of labels: each image under its row's label, everything else listed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from importing_data import encoded, labels_of, new_place, settings, shards_of, write

from dpt_ray.config.data_section import DataConfig
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


def test_names_of_any_length_are_told_by_their_beginnings(root):
    long = "x" * 130_000
    found = describe("train", table(root, f"file,label\n1.png,a\n2.png,b\n{long},a\n{long},a\n{long},a\n"))
    told = [*map(str, found.refused), *(entry.name for entry in found.ignored)]
    assert sum("x" * 100 in text for text in told) == 3
    assert all(len(text) < 2000 for text in told)


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
        ("file label\n1.png cat\n", r"has no column 'file' \(columns: 'file label'\); .* separated by a comma"),
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


SIMPLE = "file,label\n1.png,dog\n2.png,cat\n3.png,dog\n4.png,cat\n"
PETS = {"1": 1, "2": 0, "3": 1, "4": 0}


def complaint(data: DataConfig) -> str:
    with pytest.raises(UserError) as caught:
        describe("train", data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", ", ", " ; "])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_header_tells_the_separator(root, separator, end):
    text = SIMPLE.replace(",", separator).replace("\n", end)
    assert labels_of(describe("train", table(root, text))) == PETS


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_encodings_with_a_byte_order_mark_are_read(root, encoding):
    assert labels_of(describe("train", table(root, SIMPLE.replace(",", ";").encode(encoding)))) == PETS


def test_the_separator_line_of_excel_and_empty_lines_are_passed_over(root):
    text = "sep=;\r\n\r\nnote;file;label\r\n,;1.png;dog\r\n;;\r\n\r\n  \r\n;2.png;cat\r\n"
    assert labels_of(describe("train", table(root, text))) == {"1": 1, "2": 0}


def test_quoted_fields_hold_separators_and_line_breaks(root):
    text = 'file,label,note\n"1.png", "red, dog","two\nlines"\n2.png,"a ""cat""",\n3.png,"red, dog",""\n'
    images = describe("train", table(root, text))
    assert images.class_names == ('a "cat"', "red, dog")
    assert labels_of(images) == {"1": 1, "2": 0, "3": 1}


def test_a_row_with_more_or_fewer_fields_is_one_line(root):
    fix = "; give every row a field for each column; put fields that hold ',' into quotes"
    assert complaint(table(root, SIMPLE + "4.png,cat, black\n")) == (
        f"{root}/labels.csv: row 5 (line 6) has 3 fields but the header has 2{fix}"
    )
    assert "labels.csv: row 1 (line 2) has 1 fields but the header has 2;" in complaint(
        table(root, "file,label\n1.png\n")
    )
    several = 'note,file,label\n"x\ny",1.png,cat\nz,2.png\nz,2.png,cat,\nz,3.png,dog\n'
    assert "row 2 (line 4) has 2 fields but the header has 3 (1 more rows have a wrong number of fields)" in (
        complaint(table(root, several))
    )


def test_cells_behind_both_columns_may_be_left_out(root):
    assert labels_of(describe("train", table(root, "file,label,note\n1.png,dog\n2.png,cat,x\n"))) == {"1": 1, "2": 0}


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("file,label,label", "has 2 columns called 'label'; rename one of them, or set data.label_column"),
        ("file, file ,label", "has 2 columns called 'file'"),
        ("File,label", "has no column 'file' (columns: 'File', 'label'); set data.image_column to 'File'"),
        ("file,LABEL ", "set data.label_column to 'LABEL'"),
        ("1.png,dog", "has no column 'file' (columns: '1.png', 'dog'); give the table a first line with the names"),
    ],
)
def test_headers_that_do_not_name_each_column_once(root, header, words):
    assert words in complaint(table(root, f"{header}\n1.png,dog,x\n"))


def test_further_columns_of_one_name_do_not_matter(root):
    assert labels_of(describe("train", table(root, "x,file,x,label,,\n,1.png,,dog,,\n,2.png,,cat,,\n"))) == {
        "1": 1,
        "2": 0,
    }


def test_a_table_with_very_many_columns_is_named_in_a_short_line(root):
    assert len(complaint(table(root, ",".join(f"column {number}" for number in range(5000)) + "\n"))) < 1000


@pytest.mark.parametrize("row", ["1.png," + "x" * 200_000, '1.png,"' + "x\n" * 100_000, "1.png" + ',"a\n"' * 300_000])
def test_fields_and_rows_without_an_end_are_refused(root, row):
    assert "labels.csv: is not a readable CSV table (line" in complaint(table(root, f"file,label\n{row}\n"))


def test_whole_numbers_that_were_written_as_floats_are_ids_and_missing_ones_are_counted(root):
    write(root, {"5.png": encoded(), "6.png": encoded()})
    images = describe(
        "train", table(root, "file,label\n1.png,0.0\n2.png,1.0\n3.png,2.0\n4.png,10.0\n5.png,\n6.png,nan\n")
    )
    assert images.class_names is None
    assert labels_of(images) == {"1": 0, "2": 1, "3": 2, "4": 10, "5": None, "6": None}
    assert images.notes[0].startswith(f"2 of 6 images of {root}/labels.csv have no label (1 empty, 1 'nan')")


def test_decimal_commas_are_read_in_tables_with_semicolons(root):
    assert labels_of(describe("train", table(root, "file;label\n1.png;1,0\n2.png;0,0\n"))) == {"1": 1, "2": 0}


def test_fractions_are_refused(root):
    assert "labels.csv: has the label '0.5'; where all labels are numbers" in complaint(
        table(root, "file,label\n1.png,0.5\n2.png,1\n")
    )


def test_missing_values_among_names_are_no_class(root):
    images = describe("train", table(root, "file,label\n1.png,dog\n2.png,None\n3.png,NA\n4.png,cat\n"))
    assert images.class_names == ("cat", "dog")
    assert labels_of(images) == {"1": 1, "2": None, "3": None, "4": 0}
    assert "2 of 4 images" in images.notes[0]
    data = table(root, "file,label\n1.png,dog\n2.png,None\n").model_copy(update={"class_names": ("None", "dog")})
    assert labels_of(describe("train", data)) == {"1": 1, "2": 0}


def test_labels_that_say_the_same_do_not_contradict_each_other(root):
    images = describe("train", table(root, "file,label\n1.png,1\n./1.png,1.0\n2.png,0\n"))
    assert labels_of(images) == {"1": 1, "2": 0}
    assert [entry.reason for entry in images.ignored if entry.name.endswith("1.png")] == [
        "named again on line 3 of the table"
    ]


def test_names_in_both_unicode_forms_are_one_class(root):
    images = describe("train", table(root, "file,label\n1.png,caf\u00e9\n2.png,cafe\u0301\n3.png,dog\n"))
    assert images.class_names == ("caf\u00e9", "dog")
    assert labels_of(images) == {"1": 0, "2": 0, "3": 1}


def test_ids_with_most_classes_missing_are_refused_unless_their_number_is_given(root):
    data = table(root, "file,label\n1.png,119789\n2.png,0\n")
    assert "labels.csv: has the class ids 0, 119789, which leave 119,788 of the 119,790 ids" in complaint(data)
    assert "data.class_file" in complaint(data)
    told = data.model_copy(update={"num_classes": 119_790})
    assert labels_of(describe("train", told)) == {"1": 119789, "2": 0}
    assert "has the class id 119789 but data.num_classes is 10" in complaint(
        data.model_copy(update={"num_classes": 10})
    )
    few = data.model_copy(
        update={"test_labels": f"{write(root, {'t.csv': SIMPLE.replace('dog', '0').replace('cat', '900')})}/t.csv"}
    )
    images = describe("test", few, describe("train", table(root, "file,label\n1.png,0\n2.png,1\n")))
    assert set(labels_of(images).values()) == {0, 900}  # the index compares them with the training data's


@pytest.mark.parametrize(
    "spelling",
    ["./{}", ".\\{}", "{root}/{}", "data/{}", "x//../{}"],
)
def test_paths_are_read_in_every_plain_spelling(tmp_path, spelling):
    root = str(tmp_path / "data")
    text = "".join(
        (spelling.replace("{root}", root).replace("{}", cell) if cell.endswith("png") else cell) + end
        for cell, end in (("file", ","), ("label", "\n"), ("1.png", ","), ("dog", "\n"), ("2.png", ","), ("cat", "\n"))
    )
    images = describe("train", table(root, text))
    assert labels_of(images) == {"1": 1, "2": 0}
    assert {entry.name for entry in images.ignored} == {"3.png", "4.png"}


def test_paths_of_another_machine_are_one_line_with_the_remedy(root):
    assert complaint(table(root, "file,label\nC:\\me\\pets\\1.png,dog\nC:\\me\\pets\\2.png,cat\n")) == (
        f"{root}/labels.csv: names files such as 'C:\\\\me\\\\pets\\\\1.png', which is not below {root}; '1.png' is; "
        "write paths that are relative to that folder, without 'C:\\\\me\\\\pets\\\\'"
    )
    assert "names files without their extension, such as '1'" in complaint(table(root, "file,label\n1,dog\n2,cat\n"))


def test_files_in_the_other_unicode_form_are_found(root):
    write(root, {"cafe\u0301.png": encoded()})
    images = describe("train", table(root, "file,label\ncaf\u00e9.png,dog\n2.png,cat\n"))
    assert sorted(labels_of(images).values()) == [0, 1]


def test_another_kind_of_file_as_table_is_named(root):
    assert "labels.csv: is not a readable CSV table but a Git LFS pointer" in complaint(
        table(root, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    )


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
    with pytest.raises(ValueError, match="the format csv needs test_labels"):
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
