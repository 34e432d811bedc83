"""Tables of labelled images with their labels."""

import pytest

from dpt_ray.data.shards.label_choice import LabelledImage, ListedImages
from dpt_ray.data.shards.label_table import choose_tabled, is_label_table
from dpt_ray.errors import UserError

IMAGES = [LabelledImage(0, 0, "a/1", -1), LabelledImage(0, 1, "a/2", 1), LabelledImage(1, 0, "=sum", -1)]
NAMES = ("cat", "0")


def chosen(*lines: str) -> list[tuple[str, int]]:
    chosen = choose_tabled(ListedImages.all(IMAGES), lines, NAMES, "labels.csv")
    true = {image.key: image.label for image in IMAGES}
    assert [in_data for _, in_data in chosen] == [true[image.key] for image, _ in chosen]
    return [(image.key, image.label) for image, _ in chosen]


@pytest.mark.parametrize("header", ["file,label", "label,file", '\ufeff"File", Label ,note'])
def test_a_header_makes_a_table(header):
    assert is_label_table([header, "x,y"])


@pytest.mark.parametrize("lines", [[], [""], ["a/1.png"], ["file"], ["label"], ["profile,label"], ["x" * 200_000]])
def test_another_first_line_is_a_plain_list(lines):
    assert not is_label_table(lines)


def test_labels_are_names_or_ids_and_take_the_place_of_those_in_the_data():
    assert chosen("file,label", "a/1,cat", "a/2.png, 0", "") == [("a/1", 0), ("a/2", 1)]
    assert chosen("label,note,file", "1,x,a/1") == [("a/1", 1)]
    assert chosen("label,file", "0,a/2") == [("a/2", 1)]  # the name goes before the id


def test_an_apostrophe_against_spreadsheets_is_taken_off():
    assert chosen("file,label", "'=sum,cat") == [("=sum", 0)]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["a/1,"], "has 1 images without a label, first 'a/1'"),
        (["a/1"], "has 1 images without a label"),
        (["a/1,dog"], "labels 'a/1' as 'dog', which is no class: the classes are 'cat', '0'|is no class"),
        (["a/1,2"], "is no class"),
        (["a/1,cat", "a/1.png,0"], "two labels"),
        (["a/1,cat", "a/1,0"], "two labels"),
        ([",cat"], "without a file name"),
        (["a/9,cat"], "which the training data lacks"),
        ([], "names no image"),
        (["x" * 200_000 + ",cat"], "is no readable table"),
    ],
)
def test_rows_without_sense_are_one_line(lines, told):
    with pytest.raises(UserError, match=told):
        chosen("file,label", *lines)
