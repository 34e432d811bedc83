"""Paths as lists give them: absolute, with a folder before them, from Windows, as URLs, in either Unicode form."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.data.importing.path_hints import why_none_fits
from dpt_ray.data.shards.listed_paths import ListedPaths, plain_path

FILES = ["cat/1.png", "dog/café.png", "2.png"]


def found(text: str, location: str = "/data/pets/train", files: list[str] = FILES) -> str | None:
    """The first of the files that a listed path may stand for."""
    return next((path for path in ListedPaths(location, files).below(text) if path in files), None)


@pytest.mark.parametrize(
    "text",
    [
        "cat/1.png",
        "./cat/1.png",
        ".\\cat\\1.png",
        "cat\\1.png",
        "cat//1.png",
        "cat/./1.png",
        "dog/../cat/1.png",
        "/data/pets/train/cat/1.png",
        "/data/pets/other/../train/cat/1.png",
        "file:///data/pets/train/cat/1.png",
        "file://localhost/data/pets/train/cat/1%2Epng",
        "C:\\data\\pets\\train\\cat\\1.png",
        "c:/data/pets/train/cat/1.png",
        "train/cat/1.png",
        "./train/cat/1.png",
        "train\\cat\\1.png",
        "pets/train/cat/1.png",
        "data/pets/train/cat/1.png",
    ],
)
def test_spellings_of_a_path_below_the_folder(text):
    assert found(text) == "cat/1.png"


@pytest.mark.parametrize(
    "text",
    ["1.png", "test/cat/1.png", "other/train/cat/1.png", "/home/me/train/cat/1.png", "../train/cat/1.png", "train", ""],
)
def test_paths_that_lie_elsewhere_are_not_guessed(text):
    assert found(text) is None


def test_a_folder_inside_with_the_folders_own_name_is_meant_where_there_is_one():
    files = ["train/1.png", "2.png"]
    assert found("train/1.png", files=files) == "train/1.png"
    assert found("train/2.png", files=files) is None


def test_urls_below_the_location():
    for location in ("s3://bucket/train", "memory://bucket/train"):
        assert found(f"{location}/cat/1.png", location) == "cat/1.png"
        assert found("train/cat/1.png", location) == "cat/1.png"
        assert found("s3://elsewhere/train/cat/1.png", location) is None


def test_links_to_the_folder_lead_to_its_files(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for place in ("real", "link"):
        assert found(f"{tmp_path}/{place}/cat/1.png", str(tmp_path / "link")) == "cat/1.png"


def test_a_backslash_in_a_files_name_stays_one():
    assert found("a\\b.png", files=["a\\b.png", "a/b.png"]) == "a\\b.png"


def test_accents_are_found_in_both_forms():
    assert found(unicodedata.normalize("NFD", "dog/café.png")) == "dog/café.png"


PARTS = st.lists(st.text(st.sampled_from("ab .é犬%_-"), min_size=1, max_size=4), min_size=1, max_size=4)


@given(parts=PARTS)
def test_every_name_is_found_under_each_of_its_spellings(parts):
    parts = [part.strip(" .") or "x" for part in parts]
    name = unicodedata.normalize("NFC", "/".join(parts))
    ways = [name, f"./{name}", name.replace("/", "\\"), f"/data/train/{name}", f"C:\\data\\train\\{name}", f".//{name}"]
    for way in ways:
        assert found(way, "/data/train", [name]) == name


@given(text=st.text(max_size=30))
def test_a_plain_path_is_plain(text):
    plain = plain_path(text)
    if "://" not in plain:
        assert "\\" not in plain
        assert "//" not in plain


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ("/home/me/cat/1.png", ("/home/me/", "'cat/1.png' is", "relative to that folder", "without '/home/me/'")),
        ("D:\\me\\cat\\1.png", ("without 'D:\\\\me\\\\'",)),
        ("images/2.png", ("without 'images/'",)),
        ("1.png", ("'cat/1.png' is", "give /data/pets/train/cat as the folder")),
        ("cat/1", ("without their extension", "'cat/1.png'")),
        ("cat/1.jpg", ("'cat/1.png'", "the extension")),
        ("Cat/1.PNG", ("'cat/1.png'", "upper and lower case")),
        ("/home/me/9.png", ("'/home/me/9.png', which is not below /data/pets/train", "relative")),
        ("s3://bucket/9.png", ("relative",)),
        ("../9.png", ("relative",)),
    ],
)
def test_one_cause_explains_why_no_path_fits(listed, words):
    why = why_none_fits(["nowhere.png", listed], FILES, "/data/pets/train")
    assert why is not None
    assert all(word in f"{why.what}; {why.fix}" for word in words), why


def test_files_that_are_only_absent_have_no_other_cause():
    assert why_none_fits(["gone.png", "cat/gone.png"], FILES, "/data") is None
