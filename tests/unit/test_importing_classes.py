"""Class ids: stable, the same for both splits, and never guessed."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from importing_data import encoded, labels_of, settings, write

from dpt_ray.data.importing.classes import ClassList, check_id_gaps, given_classes, ids_of_names, sorted_names
from dpt_ray.data.importing.detect import describe
from dpt_ray.errors import UserError


def folders(root: str, *classes: str) -> str:
    return write(root, {f"{name}/{name}.png": encoded() for name in classes})


@pytest.fixture
def root(tmp_path) -> str:
    return str(tmp_path)


@given(names=st.sets(st.text(min_size=1, max_size=4), min_size=1))
def test_ids_are_places_in_the_sorted_names(names):
    ids = ids_of_names(names, None, "data")
    composed = sorted_names(names)
    assert ids == {name: composed.index(unicodedata.normalize("NFC", name)) for name in names}
    assert set(ids.values()) == set(range(len(composed)))


def test_whole_numbers_are_sorted_by_value():
    assert sorted_names(map(str, range(12))) == tuple(map(str, range(12)))
    assert sorted_names(["10", "9", "x"]) == ("10", "9", "x")


def test_the_test_data_has_the_ids_of_the_training_data(root):
    data = settings(folders(f"{root}/a", "ant", "bee", "cat"), folders(f"{root}/b", "cat", "bee"))
    train = describe("train", data)
    for test in (describe("test", data), describe("test", data, train)):
        assert test.class_names == ("ant", "bee", "cat")
        assert labels_of(test) == {"bee/bee": 1, "cat/cat": 2}


def test_a_class_that_only_the_test_data_has_is_named(root):
    data = settings(folders(f"{root}/a", "ant", "bee"), folders(f"{root}/b", "bee", "wasp"))
    with pytest.raises(UserError) as caught:
        describe("test", data)
    assert str(caught.value).startswith(
        f"{root}/b: the class 'wasp' is not one of the training data's ({root}/a); list every class in data.class_file"
    )


def test_a_given_list_gives_the_ids(root):
    train = folders(f"{root}/a", "bee", "ant")
    listed = write(root, {"names.txt": "\ufeffwasp\r\nbee\r\nant\r\n\r\n"}) + "/names.txt"
    for data in (settings(train, class_file=listed), settings(train, class_names=("wasp", "bee", "ant"))):
        images = describe("train", data)
        assert images.class_names == ("wasp", "bee", "ant")
        assert labels_of(images) == {"bee/bee": 1, "ant/ant": 2}


@pytest.mark.parametrize(
    ("listed", "complaint"),
    [
        ("ant\nwasp", "a: the class 'bee' is not one of "),
        ("ant\nbee\nant", "names.txt: lists the class 'ant' twice"),
        ("ant\n\nbee", "names.txt: has an empty line among the class names"),
        ("ant", "names.txt: lists 1 classes"),
        ("", "names.txt: lists 0 classes"),
        ("\n \r\n", "names.txt: lists 0 classes"),
        ("ant\nbee\n ant ", "names.txt: lists the class 'ant' twice"),
        ("caf\u00e9\ncafe\u0301", "names.txt: lists the class 'caf\u00e9' twice, in two spellings that look the same"),
        ("ant\n" + "x" * 600, "names.txt: has a class name of 600 characters"),
        ("ant\nb\tee", "names.txt: has the class name 'b\\tee', which holds '\\t'"),
    ],
)
def test_lists_that_do_not_fit_are_refused(root, listed, complaint):
    url = write(root, {"names.txt": listed}) + "/names.txt"
    with pytest.raises(UserError) as caught:
        describe("train", settings(folders(f"{root}/a", "ant", "bee"), class_file=url))
    assert complaint in str(caught.value)


def test_a_missing_list_and_a_wrong_number_of_classes_are_refused(root):
    train = folders(f"{root}/a", "ant", "bee")
    with pytest.raises(UserError, match=r"names\.txt: does not exist"):
        describe("train", settings(train, class_file=f"{root}/names.txt"))
    with pytest.raises(UserError, match=r"there are 2 classes but data\.num_classes is 3"):
        describe("train", settings(train, num_classes=3))


def test_numbers_beside_a_list_are_ids_within_it():
    known = ClassList(("ant", "bee"), "names.txt", from_user=True)
    assert ids_of_names(["0", "1"], known, "data") == {"0": 0, "1": 1}
    with pytest.raises(UserError, match=r"has the class id 2 but names\.txt lists 2 classes"):
        ids_of_names(["0", "2"], known, "data")
    with pytest.raises(UserError, match="the class '0' is not one of"):
        ids_of_names(["0", "ant"], known, "data")
    with pytest.raises(UserError, match=r"'0' \(nor 1 more of its classes\) is not one of"):
        ids_of_names(["0", "1"], ClassList(("ant", "bee"), "the training data's"), "data")


def test_names_of_test_data_mean_nothing_where_training_data_has_numbers(root):
    train = folders(f"{root}/a", "ant", "bee")
    table = write(root, {"labels.csv": "file,label\nant/ant.png,0\nbee/bee.png,1\n"}) + "/labels.csv"
    with pytest.raises(UserError, match="names its classes but the training data numbers them; list the names"):
        describe("test", settings(train, folders(f"{root}/b", "ant", "bee"), train_labels=table))


def test_the_same_classes_said_twice_are_refused():
    with pytest.raises(ValueError, match="class_names and class_file say the same"):
        settings("x", class_names=("a", "b"), class_file="names.txt")


def test_a_prepared_size_that_would_be_enlarged_again_is_refused():
    with pytest.raises(ValueError, match="prepare_size must not be below image_size"):
        settings("x", image_size=32, prepare_size=31)
    assert settings("x", image_size=32, prepare_size=32).prepare_size == 32


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lists_of_any_editor_are_read(root, encoding, end):
    url = write(root, {"names.txt": end.join(["cafe\u0301", " dog", "a, b", "", ""]).encode(encoding)}) + "/names.txt"
    classes = given_classes(settings("x", class_file=url))
    assert classes.names == ("caf\u00e9", "dog", "a, b")


def test_equal_names_in_the_settings_are_refused():
    with pytest.raises((UserError, ValueError), match="twice"):
        given_classes(settings("x", class_names=("ant", "bee", "ant")))


def test_a_list_is_bounded(root, monkeypatch):
    monkeypatch.setattr("dpt_ray.data.importing.classes.MAX_CLASS_ID", 3)
    url = write(root, {"names.txt": "\n".join("abcde")}) + "/names.txt"
    with pytest.raises(UserError, match=r"names\.txt: names more than 4 classes"):
        given_classes(settings("x", class_file=url))


def test_folders_in_both_unicode_forms_are_one_class(root):
    data = settings(folders(f"{root}/a", "caf\u00e9", "dog"), folders(f"{root}/b", "cafe\u0301", "dog"))
    test = describe("test", data)
    assert test.class_names == ("caf\u00e9", "dog")
    assert sorted(labels_of(test).values()) == [0, 1]
    both = describe("train", settings(folders(f"{root}/c", "caf\u00e9", "cafe\u0301", "dog")))
    assert both.class_names == ("caf\u00e9", "dog")
    assert sorted(labels_of(both).values()) == [0, 0, 1]


def test_a_class_that_differs_in_case_alone_is_pointed_to(root):
    data = settings(folders(f"{root}/a", "ant", "bee"), folders(f"{root}/b", "Bee"))
    with pytest.raises(UserError, match=r"the class 'Bee' is not one of .*; call it 'bee', or list every class"):
        describe("test", data)


@pytest.mark.parametrize("ids", [[], [0], [0, 99], [3, 7, 42], range(1000), range(500, 1000), [*range(0, 2000, 2)]])
def test_plausible_ids(ids):
    check_id_gaps(ids, "data")


@pytest.mark.parametrize("ids", [[0, 119789], [100], [1990, 1991, 1992], range(0, 3000, 3), [300_000_000], [10**30]])
def test_ids_that_leave_most_classes_without_images_are_refused(ids):
    with pytest.raises(UserError, match=r"data: has the class ids? .*these numbers look like names; .*class_file"):
        check_id_gaps(ids, "data")
