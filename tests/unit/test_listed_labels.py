"""The list of labelled images, from any editor and any machine: each name is one image, or one line says why not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from importing_data import new_place, write

from dpt_ray.config.load import load_config
from dpt_ray.data.shards.keys import file_keys
from dpt_ray.data.shards.label_choice import LabelledImage, ListedImages, choose_listed
from dpt_ray.data.shards.samples import sha256
from dpt_ray.errors import UserError
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.inputs import Inputs

TRAIN = "/data/pets/train"
KEYS = ["cat/0", "cat/1", "dog/0", "dog/café", "cat/a%2Eb", "owl/2%3Apng", "owl/2%3Ajpg"]
IMAGES = [LabelledImage(0, row, key, row % 2) for row, key in enumerate(KEYS)]


def chosen(*lines: str, images: list[LabelledImage] = IMAGES) -> list[str]:
    return [image.key for image in choose_listed(ListedImages.all(images), lines, "labelled.txt", TRAIN)]


def complaint(*lines: str) -> str:
    with pytest.raises(UserError) as caught:
        chosen(*lines)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "cat/0.png",
        "./cat/0.png",
        "cat\\0.png",
        ".\\cat\\0.png",
        "train/cat/0.png",
        "pets\\train\\cat\\0",
        f"{TRAIN}/cat/0.png",
        f"file://{TRAIN}/cat/0.png",
        "D:\\data\\pets\\train\\cat\\0.PNG",
        "  cat/0  ",
    ],
)
def test_a_name_may_be_a_path_as_other_programs_write_it(line):
    assert chosen(line) == ["cat/0"]


def test_accents_dots_and_extensions_that_tell_files_apart():
    assert chosen("dog/cafe\u0301.png", "cafe\u0301") == ["dog/café"]
    assert chosen("dog/café.png", images=[LabelledImage(0, 0, "dog/cafe\u0301", 0)]) == ["dog/cafe\u0301"]
    assert chosen("cat/a.b.png") == ["cat/a%2Eb"]
    assert chosen("owl/2.jpg") == ["owl/2%3Ajpg"]


def test_empty_lines_and_comments_are_passed_over():
    assert chosen("# labelled by hand", "#", "", "  ", "cat/1.png") == ["cat/1"]
    assert chosen("#1.png", images=[LabelledImage(0, 0, "#1", 0)]) == ["#1"]
    assert "names no image" in complaint("# nothing yet")


def test_a_missing_name_is_given_with_the_nearest_one():
    assert complaint("cat/00.png", "dog/0") == (
        "labelled.txt: names 'cat/00.png', which the training data lacks; each line must be a sample's key or file "
        "name; the nearest key is 'cat/0'"
    )
    assert "nearest key is 'cat/1'" in complaint("/home/me/pics/cat/1.png")
    assert complaint("zzzzzzzz.png").endswith("a sample's key or file name")


def test_a_line_without_end_is_told_by_its_beginning():
    assert len(complaint("x" * 100_000)) < 500
    assert "'" + "x" * 200 + "...'" in complaint("x" * 100_000, "cat/9.png")


def test_several_missing_names_are_counted():
    assert "names 3 images that the training data lacks, first 'cat/8.png';" in complaint(
        "cat/8.png", "cat/0.png", "cat/9.png", "cat/10.png"
    )


def test_a_folder_of_the_data_that_is_called_as_the_whole_is_meant():
    images = [LabelledImage(0, 0, "train/0", 0), LabelledImage(0, 1, "cat/0", 0)]
    assert chosen("train/0.png", images=images) == ["train/0"]
    with pytest.raises(UserError, match=r"names 'train/cat/0\.png', which the training data lacks"):
        chosen("train/cat/0.png", images=images)


def test_the_same_line_names_the_same_image_where_the_place_of_the_data_is_unknown():
    assert [image.key for image in choose_listed(ListedImages.all(IMAGES), ["cat\\0.png", "./dog/0"], "x")] == [
        "cat/0",
        "dog/0",
    ]


PART = st.text(st.sampled_from("ab.é犬# %"), min_size=1, max_size=5).map(lambda part: part.strip(" .#") or "x")


@given(names=st.lists(st.tuples(PART, PART), min_size=1, max_size=5, unique=True))
def test_every_file_is_found_by_its_name_in_every_spelling(names):
    files = [f"{folder}/{base}.png" for folder, base in names]
    images = [LabelledImage(0, row, key, 0) for row, key in enumerate(file_keys(files))]
    for image, file in zip(images, files, strict=True):
        for line in (file, f"./{file}", file.replace("/", "\\"), f"{TRAIN}/{file}"):
            assert chosen(line, images=images) == [image.key]


TEXT = "cat/0.png\ndog/é.png\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT[:-1].encode(),
    ],
)
def test_the_address_follows_from_the_lines_and_not_from_the_editor(content):
    url = write(new_place("memory", None), {"list.txt": content}) + "/list.txt"
    config = load_config(None, ["preset=digits", "labels.per_class=null", f"labels.file={url}"])
    step = build(config).labelled
    assert step.settings == {"listed": sha256(b"cat/0.png\ndog/\xc3\xa9.png")}


def test_a_list_that_is_no_text_is_refused():
    url = write(new_place("memory", None), {"list.txt": b"caf\xe9.png\n"}) + "/list.txt"
    with pytest.raises(UserError, match=r"list\.txt: is not a readable list of images \(line 1 is not UTF-8 text\)"):
        Inputs().label_list(url)
