"""Keys from any file names: one for each file, and one that WebDataset does not cut."""

from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.data.importing.litter import HIDDEN, why_passed_over
from dpt_ray.data.shards.archive_samples import iter_samples, split_name
from dpt_ray.data.shards.keys import extension, file_key, file_keys, has_image_name, is_text
from dpt_ray.data.shards.samples import Sample, build_shard
from dpt_ray.text import printable

SYLLABLES = st.sampled_from(["a", "b", ".", "%", "2E", "25", "3A", "%2E", "%25", "%3A", "jpg", " ", "é", "~", "-"])
STEMS = st.lists(SYLLABLES, min_size=1, max_size=6).map("".join) | st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8
)
FOLDERS = st.sampled_from(["", "cat/", "cat.d/", "cat/deep.er/", "cat%2E/"])
ENDINGS = st.sampled_from([".jpg", ".JPG", ".jpeg", ".png", ".%3Ajpg.png"])
NAMES = st.builds(lambda folder, stem, ending: folder + stem + ending, FOLDERS, STEMS, ENDINGS).filter(
    lambda name: why_passed_over(name) != HIDDEN
)


@given(names=st.lists(NAMES, unique=True, max_size=12))
def test_no_two_files_get_one_key_whatever_they_are_called(names):
    keys = file_keys(names)
    assert len(set(keys)) == len(names)
    for name, key in zip(names, keys, strict=True):
        assert split_name(f"{key}.png") == (key, "png")
        assert key.rpartition("/")[0] == name.rpartition("/")[0]


@given(names=st.lists(NAMES, unique=True, min_size=1, max_size=6))
def test_keys_come_back_out_of_a_shard(names):
    keys = file_keys(names)
    shard = build_shard(Sample(key, {"png": b"1", "cls": b"0"}) for key in keys)
    assert [sample.key for sample in iter_samples(shard, "shard")] == keys


def test_ordinary_names_stay_and_only_what_would_clash_is_changed():
    assert file_key("cat/n02_17.JPEG") == "cat/n02_17"
    assert file_key("cat/50% off.png") == "cat/50% off"
    assert file_key("cat.d/a.b.jpg") == "cat.d/a%2Eb"
    assert file_key("a%2Eb.jpg") == "a%252Eb"
    assert file_keys(["a.jpg", "a.png", "b.png"]) == ["a%3Ajpg", "a%3Apng", "b"]
    assert file_keys(["a.jpg", "a.JPG"]) == ["a%3Ajpg", "a%3AJPG"]


def test_what_looks_like_an_image():
    assert all(map(has_image_name, ["a.jpg", "b/c.JPEG", "x.y.webp"]))
    assert not any(map(has_image_name, ["a", "jpg", "a.jpg/b", "a.txt", "a.jpg.gz", "png/a"]))
    assert extension("a/b.c/D.PNG") == "png"
    assert {why_passed_over(name) for name in (".DS_Store", "cat/._a.jpg", ".git/a.png", "../a.png")} == {HIDDEN}
    assert why_passed_over("a.b/c.d") is None


def test_names_that_are_no_text_are_known_and_can_be_told():
    name = b"caf\xe9\n.jpg".decode(errors="surrogateescape")
    assert not is_text(name)
    assert is_text("café.jpg")
    assert printable(name) == "caf\\udce9\\n.jpg"
    assert printable("café.jpg") == "café.jpg"
