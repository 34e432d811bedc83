"""Splits in names: every usual spelling is found, and names of classes are no splits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpt_ray.data.importing.split_names import is_bare_split, read_split_name, splits_of_files, splits_of_folders

WORDS = {
    "train": ["train", "training", "trn"],
    "test": ["test", "testing", "tst"],
    "val": ["val", "valid", "validation"],
    "dev": ["dev", "development"],
    "eval": ["eval", "evaluation"],
    "extra": ["extra"],
    "unlabelled": ["unlabeled", "unlabelled", "un-labeled"],
    "held out": ["holdout", "held_out", "hold-out"],
}
SEPARATORS = st.sampled_from(["_", "-", ".", " ", "__", " - "])
PREFIXES = st.sampled_from(["", "mnist", "seg", "cifar10", "X", "stage1", "my data"])
SUFFIXES = st.sampled_from(["", "set", "images", "data", "2017", "v2", "10k", "32x32", "00000-of-00012", "0", "Images"])
CASES = st.sampled_from([str.lower, str.upper, str.title, str.capitalize])
SPLIT_PAIRS = st.lists(st.sampled_from(sorted(WORDS)), min_size=2, max_size=2, unique=True)


@st.composite
def pairs_of_names(draw):
    """Names of two splits of one data set, spelt each in its own way, and the splits."""
    prefix, splits = draw(PREFIXES), draw(SPLIT_PAIRS)
    names = []
    for split in splits:
        parts = [prefix, draw(CASES)(draw(st.sampled_from(WORDS[split]))), draw(SUFFIXES)]
        names.append(draw(SEPARATORS).join(filter(None, parts)))
    return names, splits


@given(pairs_of_names())
def test_two_splits_of_one_data_set_are_found_however_they_are_spelt(pair):
    names, splits = pair
    assert splits_of_folders(names) == {split: [name] for split, name in sorted(zip(splits, names, strict=True))}
    files = [f"{name}.parquet" for name in names]
    assert sorted(splits_of_files(files)) == sorted(splits)


@given(pair=pairs_of_names(), others=st.lists(st.sampled_from(["README", "labels", "cat", "x y", "0001"]), unique=True))
def test_other_names_beside_them_hide_nothing(pair, others):
    names, splits = pair
    assert sorted(splits_of_folders([*names, *others])) == sorted(splits)
    assert sorted(splits_of_files([*names, *others])) == sorted(splits)


@pytest.mark.parametrize(
    ("name", "split", "rest"),
    [
        ("trainset", "train", ()),
        ("TestSet", "test", ()),
        ("valImages2014", "val", ()),
        ("ImagesTrain", "train", ()),
        ("imagesTr", "train", ()),
        ("labels_ts", "test", ()),
        ("TRAINset", "train", ()),
        ("train2017", "train", ()),
        ("2017train", "train", ()),
        ("trainA", "train", ("a",)),
        ("X_train", "train", ("x",)),
        ("test(1)", "test", ()),
        ("train-00000-of-00001-a09b74b3ef9c3b56.parquet", "train", ()),
        ("imagenet-val-000012.tar", "val", ("imagenet",)),
        ("trainval", "train+val", ()),
        ("train_val", "train+val", ()),
        ("test-dev2017", "dev+test", ()),
        ("train_extra", "extra+train", ()),
        ("\uff54\uff52\uff41\uff49\uff4e", "train", ()),  # full width
        ("test_tube", "test", ("tube",)),
    ],
)
def test_names_are_read(name, split, rest):
    found = read_split_name(name)
    assert (found.split, found.rest) == (split, rest)


def test_words_within_words_count_only_beside_their_counterpart():
    assert splits_of_folders(["mnisttrain", "mnisttest"]) == {"test": ["mnisttest"], "train": ["mnisttrain"]}
    assert not splits_of_folders(["constrain", "contest", "protest", "restraint", "interval", "carnival", "medieval"])
    assert not splits_of_files(["constrain.tar", "contest.tar"])


CLASS_LISTS = [
    ["car", "bus", "train", "test_tube", "bicycle"],
    ["freight_train", "test tube", "passenger-train", "bullet train", "dev_board"],
    ["aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train", "tvmonitor"],
    ["valid", "invalid"],
    ["test", "control"],
    ["extra_small", "extra_large", "small", "large"],
    ["positive_test", "negative_test"],
    ["valley", "village", "train", "testudo", "trainer", "tester", "validator", "developer", "evaluator"],
    ["training_shoe", "test_dummy", "extra_tyre", "valid_ticket"],
    ["streetcar", "tank", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale"],
    ["trained", "untrained"],
    ["n01440764", "n02123045"],
    ["0", "1", "2"],
    ["dev", "prod"],
]


@pytest.mark.parametrize("names", CLASS_LISTS)
def test_lists_of_classes_are_no_splits(names):
    assert not splits_of_folders(names)


@given(st.lists(st.text(max_size=12), max_size=8, unique=True), st.sampled_from(CLASS_LISTS))
def test_any_names_are_read_without_a_fault(names, classes):
    for name in [*names, *classes]:
        read_split_name(name)
        is_bare_split(name)
    assert len(splits_of_folders(names)) != 1
    assert len(splits_of_files(names)) != 1


@pytest.mark.parametrize(
    "name", ["dataset" * 40, "images" * 40 + "x", "1" * 250, "set" * 80 + "train" * 3, "trainset" * 30]
)
def test_long_names_take_no_time(name):
    read_split_name(name)


def test_bare_splits_say_nothing_else():
    assert all(map(is_bare_split, ["train", "Testing", "val_set", "test_images", "val2017", "train-v2"]))
    assert not any(map(is_bare_split, ["seg_train", "test_tube", "cat", "mnisttrain", "trainA"]))
