"""Large class folders are listed once for all commands and trials, and again when a folder has changed."""

import os
import pickle
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from dpt_ray.config.load import load_config
from dpt_ray.data.images.decoding import encode_png
from dpt_ray.data.importing import class_folders
from dpt_ray.data.importing.classes import ClassList
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.pipeline import listings
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.listings import LISTINGS, Listings

PNG = encode_png(np.zeros((1, 8, 8), np.uint8))
LONG_AGO = 1_600_000_000


@pytest.fixture(autouse=True)
def large(monkeypatch):
    monkeypatch.setattr(listings, "KEPT_FROM", 4)
    yield
    fsspec.filesystem("memory").store.clear()


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path) -> str:
    root = str(tmp_path / "data") if request.param == "local" else "memory://listed/data"
    for name in ("a/1.png", "a/deep/2.png", "b/1.png", "b/1.jpg", "unlabelled/x.png", "b/notes.txt", "readme.md"):
        stores.write_bytes(f"{root}/{name}", (PNG if "." + name[-3:] != ".txt" else b"") + name.encode())
    settle(root)
    return root


def settle(root: str) -> None:
    """Let all folders be as if nothing had changed for long."""
    for folder, _, _ in os.walk(root):
        os.utime(folder, (LONG_AGO, LONG_AGO))


@pytest.fixture
def looks(monkeypatch) -> list[str]:
    """The places that are listed."""
    seen: list[str] = []
    listed = class_folders.list_tree

    def list_tree(url: str) -> Any:
        seen.append(url)
        return listed(url)

    monkeypatch.setattr(class_folders, "list_tree", list_tree)
    return seen


def described(root: Path, place: str, *, again: bool = False, known: ClassList | None = None) -> Any:
    kept = Listings(str(root), again=again)
    found = kept.describe(place, known)
    kept.keep()
    return found


def test_a_folder_is_listed_once_and_gives_the_same_images(tmp_path, place, looks, capsys):
    first = described(tmp_path, place)
    assert capsys.readouterr().out == ""
    second = described(tmp_path, place)
    assert looks == [place]
    assert f"{place}: 5 images as listed on 20" in capsys.readouterr().out
    for name in ("location", "listing", "class_names", "refused", "ignored", "notes"):
        assert getattr(second, name) == getattr(first, name)
    assert list(second.files) == list(first.files)
    assert len(second.files) == len(first.files) == 5
    assert list(second.recipes(2)) == list(first.recipes(2))
    assert second.planned_counts() == first.planned_counts() == {0: 2, 1: 2}


def test_a_change_is_seen(tmp_path, place, looks):
    first = described(tmp_path, place)
    stores.write_bytes(f"{place}/a/deep/3.png", PNG)
    changed = described(tmp_path, place)
    if place.startswith("memory"):  # a store keeps no times of folders
        assert changed.listing == first.listing
        changed = described(tmp_path, place, again=True)
    assert len(changed.files) == 6
    settle(place)
    assert len(described(tmp_path, place).files) == 6


def test_other_classes_are_another_listing(tmp_path, place, looks):
    first = described(tmp_path, place)
    other = described(tmp_path, place, known=ClassList(("b", "a"), "given", from_user=True))
    assert other.class_names == ("b", "a")
    assert first.class_names == ("a", "b")
    assert looks == [place, place]


def test_a_folder_that_has_just_changed_is_listed_again(tmp_path, looks):
    place = str(tmp_path / "data")
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        stores.write_bytes(f"{place}/{name}", PNG)
    described(tmp_path, place)
    described(tmp_path, place)
    assert looks == [place, place]


@pytest.mark.parametrize("damage", ["cut", "gone", "other", "note"])
def test_a_damaged_listing_is_made_again(tmp_path, place, looks, damage):
    first = described(tmp_path, place)
    (file,) = (file["url"] for file in stores.list_files(f"{tmp_path}/{LISTINGS}") if file["name"].endswith(".parquet"))
    (note,) = (file["url"] for file in stores.list_files(f"{tmp_path}/{LISTINGS}") if file["name"].endswith(".json"))
    if damage == "gone":
        stores.remove_tree(file)
    else:
        stores.write_bytes(note if damage == "note" else file, {"cut": b"PAR1", "other": PNG, "note": b"{}"}[damage])
    assert described(tmp_path, place).listing == first.listing
    assert looks == [place, place]
    if damage in ("gone", "note"):
        described(tmp_path, place)
        assert looks == [place, place]


def test_trials_receive_the_place_of_a_listing(tmp_path, place):
    found = described(tmp_path, place)
    again = pickle.loads(pickle.dumps(found))
    assert len(pickle.dumps(found.files)) < 300
    assert list(again.files) == list(found.files)
    (file,) = (file["url"] for file in stores.list_files(f"{tmp_path}/{LISTINGS}") if file["name"].endswith(".parquet"))
    lazy = pickle.loads(pickle.dumps(found))
    stores.remove_tree(file)
    assert len(lazy.files) == 5
    with pytest.raises(UserError, match="does not exist"):
        list(lazy.files)


def test_few_files_and_a_dry_run_leave_nothing(tmp_path, place, monkeypatch):
    Listings(str(tmp_path / "a"), again=False).describe(place, None)
    monkeypatch.setattr(listings, "KEPT_FROM", 6)
    described(tmp_path / "b", place)
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_the_address_of_a_run_does_not_depend_on_where_its_listing_is_from(tmp_path, place):
    data = [f"data.train={place}", f"data.test={place}2", "data.num_classes=2", "data.image_size=8"]
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        stores.write_bytes(f"{place}2/{name}", PNG)
    config = load_config(None, ["preset=digits", *data, f"root={tmp_path}/root", "labels.per_class=1"])
    addresses = []
    for _ in range(2):
        inputs = Inputs()
        addresses.append(build(config, inputs=inputs).evaluation.address)
        inputs.keep_listings()
    assert addresses[0] == addresses[1]
    assert len(stores.list_files(f"{tmp_path}/root/{LISTINGS}")) >= 2
