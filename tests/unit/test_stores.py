"""Files on any store: whole or not at all, and one clear line where something cannot be done."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest
from store_contract import (  # noqa: F401
    names,
    test_a_tree_and_its_folders_are_listed,
    test_a_tree_is_removed_with_all_in_it_and_absence_is_fine,
    test_a_writable_place_is_left_as_it_was,
    test_json_comes_back_and_broken_json_is_named,
    test_listing_leaves_folders_out_and_an_absent_or_plain_file_lists_nothing,
    test_missing_files_are_named,
    test_ranges_are_cut_at_the_end_of_the_file,
    test_what_is_written_is_read_replaced_and_listed,
)

from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError


@pytest.fixture
def memory():
    """URL of an empty folder of fsspec's in-memory filesystem."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
    yield "memory://bucket"
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


@pytest.fixture(params=["local", "file", "memory"])
def root(request, tmp_path, memory) -> str:
    """URL of an empty folder: a local path, a file:// URL or an in-memory one."""
    return {"local": str(tmp_path), "file": f"file://{tmp_path}", "memory": memory}[request.param]


def test_removing_what_another_removes_at_the_same_moment_is_fine(tmp_path, monkeypatch):
    url = str(tmp_path / "a")
    stores.write_bytes(url, b"x")
    filesystem, path = stores.filesystem(url)
    remove = type(filesystem).rm

    def removed_before(self, *arguments, **options):
        os.unlink(path)
        remove(self, *arguments, **options)

    monkeypatch.setattr(type(filesystem), "rm", removed_before)
    stores.remove_tree(url)
    assert not stores.exists(url)


@pytest.mark.parametrize("culprit", ["fsync", "replace"])
def test_a_failing_write_keeps_the_old_content_and_leaves_nothing_behind(tmp_path, monkeypatch, culprit):
    url = str(tmp_path / "a")
    stores.write_bytes(url, b"old")

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, culprit, fail)
    with pytest.raises(
        UserError, match=r"a: cannot be written \(No space left on device\); free some space there; the same command"
    ):
        stores.write_bytes(url, b"new")
    monkeypatch.undo()
    assert stores.read_bytes(url) == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_an_interrupted_write_keeps_the_old_content_and_leaves_nothing_behind(tmp_path, monkeypatch):
    url = str(tmp_path / "a")
    stores.write_bytes(url, b"old")

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stores.write_bytes(url, b"new")
    assert stores.read_bytes(url) == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_the_new_content_is_whole_on_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    url = str(tmp_path / "a")
    stores.write_bytes(url, b"old")
    seen = []
    replace, fsync = os.replace, os.fsync

    def look_at_sync(file):
        seen.append(("synced bytes", os.fstat(file).st_size))
        fsync(file)

    def look_at_replace(partial, path):
        seen.append((stores.read_bytes(str(partial)), stores.read_bytes(str(path))))
        replace(partial, path)

    monkeypatch.setattr(os, "fsync", look_at_sync)
    monkeypatch.setattr(os, "replace", look_at_replace)
    stores.write_bytes(url, b"new")
    assert seen == [("synced bytes", 3), (b"new", b"old")]


def test_unwritable_places_are_refused_in_one_line(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x")
    for url in (str(file / "a"), str(file / "deep" / "a")):
        with pytest.raises(UserError, match="cannot be written") as caught:
            stores.write_bytes(url, b"new")
        assert str(caught.value).startswith(url)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="cannot be written"):
        stores.check_writable(str(file))
    with pytest.raises(UserError, match="cannot be written"):
        stores.write_bytes(str(tmp_path), b"a folder is there")
    assert file.read_bytes() == b"x"
    assert os.listdir(tmp_path) == ["file"]


def test_paths_below_a_file_do_not_exist(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    url = str(tmp_path / "file" / "a")
    assert not stores.exists(url)
    assert names(url) == []
    with pytest.raises(UserError, match="does not exist"):
        stores.read_bytes(url)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        stores.read_bytes(str(tmp_path))


@pytest.mark.parametrize("call", [stores.read_bytes, stores.exists, stores.list_files, stores.check_writable])
def test_unknown_kinds_of_url_are_refused(call):
    with pytest.raises(UserError, match=r"^nowhere://bucket\S*: no storage is known for this URL"):
        call("nowhere://bucket")


def test_links_are_listed_as_what_they_lead_to(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "big").write_bytes(b"12345")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.tar").symlink_to(tmp_path / "data" / "big")
    (folder / "sub").symlink_to(tmp_path / "data")
    assert [(entry["name"], entry["size"]) for entry in stores.list_files(str(folder))] == [("a.tar", 5)]
    (folder / "b.tar").symlink_to(tmp_path / "none")
    with pytest.raises(UserError, match=r"b\.tar: is a link to a file that does not exist"):
        stores.list_files(str(folder))


def test_a_changed_file_is_told_from_its_former_self(tmp_path):
    url = str(tmp_path / "a.tar")
    stores.write_bytes(url, b"1")
    os.utime(url, (1, 1))
    before = stores.list_files(str(tmp_path))
    assert before == stores.list_files(str(tmp_path))
    os.utime(url, (2, 2))
    assert before != stores.list_files(str(tmp_path))


def test_relative_paths_become_absolute_and_urls_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert stores.absolute_url("a/b") == str(tmp_path / "a" / "b")
    assert stores.absolute_url("~/a") == "/home/somebody/a"
    assert stores.absolute_url("s3://bucket/a") == "s3://bucket/a"


def test_parts_are_joined_with_single_slashes():
    assert stores.join("s3://bucket/", "a", "b") == stores.join("s3://bucket", "a", "b") == "s3://bucket/a/b"


def test_of_many_who_write_a_new_file_one_succeeds_and_readers_see_it_whole(tmp_path):
    url, start = str(tmp_path / "new" / "file"), threading.Barrier(8)

    def write(number: int) -> bool:
        start.wait()
        return stores.write_new(url, bytes([number]) * 10_000)

    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(write, range(8)))
    assert written.count(True) == 1
    assert stores.read_bytes(url) == bytes([written.index(True)]) * 10_000
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_filesystem_without_hard_links_cannot_tell_that_a_file_is_new(tmp_path, monkeypatch, error):
    def refuse(*paths: object) -> None:
        raise OSError(error, "no hard links")

    monkeypatch.setattr(os, "link", refuse)
    assert not stores.write_new(str(tmp_path / "file"), b"content")
    assert list(tmp_path.iterdir()) == []


def test_an_object_store_cannot_tell_that_a_file_is_new():
    assert not stores.write_new("memory://new/file", b"content")
    assert not stores.exists("memory://new/file")
