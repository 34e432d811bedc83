"""Class folders with many files: the same listing, keys and recipes as ever, in at most 100 bytes a file."""

import os
import tracemalloc
from pathlib import Path

import fsspec
import numpy as np
import pytest

from dpt_ray.core.seeds import derive_seed
from dpt_ray.data.importing import class_folders, labelled_files
from dpt_ray.data.importing.class_folders import describe_class_folders
from dpt_ray.data.importing.file_entries import FileEntries
from dpt_ray.data.importing.import_plan import Location
from dpt_ray.data.importing.labelled_files import FileRecipes, LabelledFiles
from dpt_ray.data.importing.tree import list_tree
from dpt_ray.data.shards.keys import file_keys
from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.stores import StoredFile
from dpt_ray.pipeline.execution.shard_writer import plan_shards

NAMES = [
    "a/1.jpg", "a/2.jpg", "a-b/1.jpg", "a.b/1.jpg", "a/b/1.jpg", "a/b.jpg", "a/b-c.jpg", "A/x.png", "A/x.jpg",
    "z/é.png", "a b/1.png", "a!/1.png", "a0/1.png", "a/.hidden.jpg", "__MACOSX/a/1.jpg", "a/@eaDir/1.jpg", "top.png",
    "a-c", "ab/1.jpg",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["local", "memory", "object and folder of one name"])
def test_a_tree_is_listed_in_the_order_of_its_names(tmp_path, kind):
    root = str(tmp_path / "data") if kind == "local" else "memory://a-tree/data"
    written = [*NAMES, "a-b"] if kind not in ("local", "memory") else NAMES
    for name in written:
        stores.write_bytes(f"{root}/{name}", name.encode())
    names = [entry["name"] for entry in list_tree(root)]
    litter = {"__MACOSX/", "a/@eaDir/"}
    assert names == sorted(litter | {name for name in written if not name.startswith(tuple(litter))})
    for entry in list_tree(root):
        assert entry["url"] == f"{root}/{entry['name']}"
        assert entry["name"].endswith("/") or entry["size"] == len(entry["name"].encode())
    fsspec.filesystem("memory").store.clear()


def entries_of(*files: StoredFile) -> FileEntries:
    entries = FileEntries("/data")
    for file in files:
        entries.append(file)
    return entries


@pytest.mark.parametrize("marks", [["1732873089.125", "1.5"], ["1732873089.125", '"an-etag"', "2.5"], ["", "1.50"]])
def test_entries_are_kept_as_they_are(marks):
    files: list[StoredFile] = [
        {"name": f"a/\udcff{n}", "url": f"/data/a/\udcff{n}", "size": None if n else 2**40, "changed": mark}
        for n, mark in enumerate(marks)
    ]
    files.append({"name": "b", "url": "/data/b", "size": None, "changed": "", "broken": True})
    entries = entries_of(*files)
    assert list(entries) == files
    assert list(entries.at([1, 2])) == files[1:3]
    assert list(entries.at([1, 2]).at([1])) == [files[2]]
    assert [entry["changed"] for entry in entries.without_marks()[:-1]] == [""] * len(marks)
    assert list(entries.named(lambda name: name == "b").names()) == ["b"]
    with pytest.raises(IndexError):
        entries[len(files)]


def test_keys_labels_and_recipes_are_those_of_the_names(monkeypatch):
    random = np.random.default_rng(0)
    names = sorted(
        {f"c{random.integers(5)}/{random.integers(300)}.{e}" for e in ("jpg", "png", "JPG") for _ in range(300)}
    )
    entries = entries_of(*({"name": n, "url": f"/data/{n}", "size": len(n), "changed": ""} for n in names))
    labels = [int(name[1]) if name[1] != "4" else None for name in names]
    files = LabelledFiles(entries, labels)
    keys = file_keys(names)
    assert any("%3A" in key for key in keys)
    assert list(files) == [(name, len(name), key, label) for name, key, label in zip(names, keys, labels, strict=True)]
    assert files.counts() == {label: labels.count(label) for label in range(4)}
    for ties in (False, True):
        if ties:
            monkeypatch.setattr(labelled_files, "derive_seed", lambda kind, key: len(key))
        seed = labelled_files.derive_seed
        mixed = sorted(files, key=lambda file: (seed("shard order", file.key), file.key))
        recipes = FileRecipes(files, 100)
        assert [file for recipe in recipes for file in recipe["files"]] == list(map(list, mixed))
        assert [recipe["images"] for recipe in recipes][:-1] == [100] * (len(files) // 100)
        assert recipes[::3] == [recipes[n] for n in range(0, len(recipes), 3)]
    assert derive_seed("shard order", "a") >= 0


def test_the_hash_of_a_listing_is_that_of_its_lines(tmp_path):
    for name in ("a/1.png", "b/2.png"):
        stores.write_bytes(str(tmp_path / name), b"x")
        os.utime(tmp_path / name, (1.5, 1.5))
    found = describe_class_folders(str(tmp_path), None)
    lines = [repr((name, 1, "1.5")) for name in ("a/1.png", "b/2.png")] + ["[]"]
    assert found.listing == sha256("\n".join(lines).encode())[:16]
    assert found.reader_settings() == Location(str(tmp_path)).to_json()


FILES = 15_000


def test_a_file_takes_at_most_100_bytes(monkeypatch, tmp_path):
    """As in ImageNet, whose names have some 30 characters."""
    (Path(tmp_path) / "n").mkdir()

    def listed(url: str) -> FileEntries:
        entries = FileEntries(url)
        for number in range(FILES):
            name = f"n{number // 1300:08d}/n{number // 1300:08d}_{number:05d}.JPEG"
            entries.append({"name": name, "url": "", "size": 110_000 + number, "changed": f"17328{number:05d}.125"})
        return entries

    monkeypatch.setattr(class_folders, "list_tree", listed)
    describe_class_folders(str(tmp_path), None)  # what is imported and cached is not counted
    tracemalloc.start()
    try:
        found = describe_class_folders(str(tmp_path), None)
        described = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        plan, units, total = plan_shards(found.recipes(100))
        planned = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (total, len(units)) == (FILES, FILES // 100)
    assert len(plan) < 40 * FILES
    assert described[0] <= 75 * FILES
    assert described[1] <= 100 * FILES
    assert planned <= 110 * FILES
