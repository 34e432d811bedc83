"""Files that grow: appended locally, rewritten in bounded parts in a store, and nothing lost when a write fails."""

import errno
import os
import uuid

import pytest

from dpt_ray.data.storage import stores
from dpt_ray.data.storage.growing_file import GrowingFile
from dpt_ray.errors import UserError


def contents(folder: str) -> dict[str, bytes]:
    return {file["name"]: stores.read_bytes(file["url"]) for file in stores.list_files(folder)}


def test_a_local_file_is_appended_to_and_keeps_what_it_held(tmp_path):
    (tmp_path / "log.txt").write_bytes(b"before\n")
    file = GrowingFile(str(tmp_path / "log.txt"), part_bytes=4)
    file.write(b"one\n")
    assert contents(str(tmp_path)) == {"log.txt": b"before\n"}
    file.flush()
    file.write(b"two\n")
    file.flush()
    file.flush()
    assert contents(str(tmp_path)) == {"log.txt": b"before\none\ntwo\n"}


def test_an_object_is_rewritten_until_it_is_large_and_no_record_is_split():
    folder = f"memory://{uuid.uuid4().hex}"
    file = GrowingFile(f"{folder}/log.txt", part_bytes=8)
    for record in (b"one\n", b"two\n", b"three\n"):
        file.write(record)
        file.flush()
    assert contents(folder) == {"log.txt": b"one\ntwo\n", "log.2.txt": b"three\n"}
    for record in (b"longer than a part\n", b"4\n", b"5\n"):
        file.write(record)
    file.flush()
    assert contents(folder) == {
        "log.txt": b"one\ntwo\n",
        "log.2.txt": b"three\n",
        "log.3.txt": b"longer than a part\n",
        "log.4.txt": b"4\n5\n",
    }


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_what_could_not_be_written_is_written_later_once(kind, tmp_path, monkeypatch):
    folder = str(tmp_path) if kind == "local" else f"memory://{uuid.uuid4().hex}"
    file = GrowingFile(f"{folder}/log.txt")
    file.write(b"one\n")
    file.flush()

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if kind == "local":
            patch.setattr(stores, "open", fail, raising=False)
        else:
            patch.setattr(type(stores.filesystem(folder)[0]), "pipe_file", fail)
        file.write(b"two\n")
        with pytest.raises(UserError, match="No space left"):
            file.flush()
        file.write(b"three\n")
    file.flush()
    assert contents(folder) == {"log.txt": b"one\ntwo\nthree\n"}
