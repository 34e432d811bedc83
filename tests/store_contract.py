"""What every kind of storage must do; modules that import these tests give them a fixture `root`, an empty folder."""

import pytest

from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError


def names(url: str) -> list[str]:
    return [entry["name"] for entry in stores.list_files(url)]


def test_what_is_written_is_read_replaced_and_listed(root):
    url = stores.join(root, "deep", "er", "a.bin")
    assert not stores.exists(url)
    for content in (b"one", b"", b"three" * 1000):
        stores.write_bytes(url, content)
        assert stores.read_bytes(url) == content
        assert stores.exists(url)
    stores.write_bytes(stores.join(root, "deep", "er", "A.bin"), b"xy")
    assert names(stores.join(root, "deep", "er")) == ["A.bin", "a.bin"]
    assert stores.list_files(stores.join(root, "deep", "er"))[0] | {"changed": ""} == {
        "name": "A.bin",
        "url": stores.join(root, "deep", "er", "A.bin"),
        "size": 2,
        "changed": "",
    }


def test_listing_leaves_folders_out_and_an_absent_or_plain_file_lists_nothing(root):
    stores.write_bytes(stores.join(root, "folder", "a"), b"1")
    stores.write_bytes(stores.join(root, "b"), b"2")
    assert names(root) == names(root + "/") == ["b"]
    assert names(stores.join(root, "none")) == []
    assert names(stores.join(root, "b")) == []


def test_missing_files_are_named(root):
    url = stores.join(root, "none.bin")
    with pytest.raises(UserError) as caught:
        stores.read_bytes(url)
    assert str(caught.value) == f"{url}: does not exist"
    with pytest.raises(UserError, match="does not exist"):
        stores.read_json(url)


def test_json_comes_back_and_broken_json_is_named(root):
    url = stores.join(root, "a.json")
    value = {"b": [1, 2.5, None], "ü": "画像"}
    stores.write_json(url, value)
    assert stores.read_json(url) == value
    assert "ü" in stores.read_bytes(url).decode()
    for broken in (b"{", b"", b"\xff"):
        stores.write_bytes(url, broken)
        with pytest.raises(UserError, match="is not valid JSON"):
            stores.read_json(url)


def test_a_tree_is_removed_with_all_in_it_and_absence_is_fine(root):
    for name in ("tree/a", "tree/deep/b", "kept"):
        stores.write_bytes(stores.join(root, name), b"x")
    stores.remove_tree(stores.join(root, "tree"))
    stores.remove_tree(stores.join(root, "tree"))
    assert not stores.exists(stores.join(root, "tree"))
    assert stores.exists(stores.join(root, "kept"))
    stores.remove_tree(stores.join(root, "kept"))
    assert not stores.exists(stores.join(root, "kept"))


def test_a_writable_place_is_left_as_it_was(root):
    stores.write_bytes(stores.join(root, "a"), b"x")
    stores.check_writable(root)
    assert names(root) == ["a"]


def test_ranges_are_cut_at_the_end_of_the_file(root):
    url = stores.join(root, "a")
    stores.write_bytes(url, b"0123456789")
    for start, stop in [(0, 10), (2, 5), (5, 100), (9, 10), (10, 12), (50, 60), (3, 3)]:
        assert stores.read_range(url, start, stop) == b"0123456789"[start:stop], (start, stop)
    with pytest.raises(UserError, match="none: does not exist"):
        stores.read_range(stores.join(root, "none"), 0, 1)


def test_a_tree_and_its_folders_are_listed(root):
    for name in ("tree/b/c", "tree/a", "tree/b/d/e", "treetop"):
        stores.write_bytes(stores.join(root, name), b"xy")
    found = stores.list_tree(stores.join(root, "tree"))
    assert [file["name"] for file in found] == ["a", "b/c", "b/d/e"]
    assert [file["url"] for file in found] == [stores.join(root, "tree", file["name"]) for file in found]
    assert {file["size"] for file in found} == {2}
    assert stores.list_folders(stores.join(root, "tree")) == ["b"]
    assert stores.list_folders(stores.join(root, "none")) == stores.list_tree(stores.join(root, "none")) == []
