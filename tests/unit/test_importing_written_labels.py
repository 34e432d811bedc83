"""Labels that are text: missing values, numbers in any of the ways in which programs write them, and names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.data.importing.classes import ClassList
from dpt_ray.data.importing.written_labels import MISSING, read_labels, say_missing, whole_number
from dpt_ray.errors import UserError


def said(*labels: str, known: ClassList | None = None) -> list[str | None]:
    return [read_labels(labels, known, "t.csv")[label] for label in labels]


def complaint(*labels: str) -> str:
    with pytest.raises(UserError) as caught:
        read_labels(labels, None, "t.csv")
    return str(caught.value)


@pytest.mark.parametrize("way", [str, str.upper, str.title, lambda text: f"  {text}\t"])
def test_missing_values_in_any_case_are_no_class(way):
    assert [read_labels({way(label), "cat"}, None, "t.csv")[way(label)] for label in MISSING] == [None] * len(MISSING)


def test_a_listed_class_is_one_whatever_it_is_called():
    assert said("None", "nan", "NA", known=ClassList(("None", "NA"), "names.txt")) == ["None", None, "NA"]


@given(value=st.integers(0, 999_999), digits=st.integers(0, 9), plus=st.booleans())
def test_whole_numbers_are_read_however_floats_are_written(value, digits, plus):
    ways = [f"{value}.", f"{value:.{digits}f}", f"{value:e}" if value < 10**7 else f"{value}", f"{value:.18e}"]
    ways += [f"{value},0", f"{value},00", f"{float(value)!r}", f"{float(value):E}" if value < 10**7 else f"{value}"]
    for way in ways:
        assert whole_number("+" * plus + way) == value, way
        assert said(way, "3") == [str(value), "3"]


def test_numbers_among_numbers_are_whole_and_from_zero():
    assert complaint("0.0", "1.5").startswith("t.csv: has the label '1.5'; where all labels are numbers, they must be")
    for odd in ("1,000", "1,500", "inf", "-Infinity", "1e999999999", "1e-9999999999999999999", "12,000,000", "1e-3"):
        assert f"has the label {odd!r}" in complaint("1", odd)
    assert "has the class id -2; class ids count from 0" in complaint("-2.0", "1")
    assert "has the class id -1" in complaint("-1", "1")


def test_numbers_among_names_are_names_but_one_number_is_not_written_in_two_ways():
    assert said("1.0", "cat", "10") == ["1.0", "cat", "10"]
    assert said("inf", "sup", "1,5 mm") == ["inf", "sup", "1,5 mm"]
    assert "has the labels '1' and '1.0', which are one number, among names" in complaint("1", "1.0", "cat")


def test_fractions_that_the_list_of_classes_has_are_names():
    assert said("0.5", "1.0", known=ClassList(("1.0", "0.5"), "names.txt")) == ["0.5", "1.0"]


def test_names_are_stripped_and_composed():
    assert said("  cafe\u0301 ", "caf\u00e9") == ["caf\u00e9", "caf\u00e9"]


def test_what_is_no_name_is_refused():
    assert "has a class name of 501 characters" in complaint("x" * 501, "y")
    assert r"has the class name 'a\nb', which holds '\n'" in complaint("a\nb")
    assert said("x" * 500, "क्\u200dष", "a\u00a0b") == ["x" * 500, "क्\u200dष", "a\u00a0b"]


def test_missing_labels_are_counted_by_their_text():
    assert say_missing({}, 5, "t.csv") == ()
    assert say_missing({"": 2}, 5, "t.csv") == ("2 of 5 images of t.csv have no label (2 empty)",)
    (note,) = say_missing({" nan": 1, "nan": 1, "": 1}, 5, "t.csv")
    assert note.startswith("3 of 5 images of t.csv have no label (1 empty, 2 'nan'); if one of these is a class")
