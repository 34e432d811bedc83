"""Folders that only their user can enter: made, kept while their process lives, removed when it is dead."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dpt_ray.distributed import local_ray, private_folder
from dpt_ray.distributed.code_folder import private_code_folder
from dpt_ray.distributed.private_folder import LONGEST_BASE, make_private_folder, remove_private_folder
from dpt_ray.errors import UserError

PROGRAM = """
import sys, time
from dpt_ray.distributed.private_folder import make_private_folder
folder = make_private_folder()
(folder / "session").mkdir()
(folder / "session" / "log").write_text("of a run")
print(folder, flush=True)
time.sleep(600)
"""


@pytest.fixture
def base(monkeypatch, tmp_path):
    """A folder of a short path, as /tmp is: everybody may write, only owners remove."""
    short = Path(f"/tmp/t{os.getpid()}")
    short.mkdir()
    short.chmod(0o1777)
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    yield short
    subprocess.run(["rm", "-rf", str(short)], check=True)


def _run(base: Path) -> tuple[subprocess.Popen, Path]:
    """Start a process with a private folder; return both."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return process, Path(process.stdout.readline().strip())


def test_a_folder_is_closed_whatever_the_umask_and_is_removed_with_all_in_it(base):
    before = os.umask(0)
    try:
        folder = make_private_folder()
    finally:
        os.umask(before)
    assert folder.parent == base
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "file").write_text("x")
    remove_private_folder(folder)
    assert list(base.iterdir()) == []


def test_what_a_killed_run_left_is_removed_and_what_a_live_one_has_stays(base):
    killed, left = _run(base)
    alive, kept = _run(base)
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert (left / "session" / "log").exists()
        folder = make_private_folder()
        assert not left.exists()
        assert (kept / "session" / "log").read_text() == "of a run"
        remove_private_folder(folder)
    finally:
        alive.kill()
        alive.wait()


@pytest.mark.parametrize(
    "kind", ["no lock", "open mode", "file", "link", "another user's", "another name", "lock is a link"]
)
def test_what_may_be_something_other_stays(base, tmp_path, kind):
    folder = base / ("other-12345678" if kind == "another name" else "dpt-12345678")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "lock").write_text("")
    if kind == "file":
        folder.write_text("x")
    elif kind == "link":
        folder.symlink_to(precious)
    else:
        folder.mkdir(mode=0o700)
        if kind == "lock is a link":
            (folder / "lock").symlink_to(precious / "lock")
        elif kind != "no lock":
            (folder / "lock").write_text("")
    if kind == "open mode":
        folder.chmod(0o755)
    if kind == "another user's":
        if os.getuid() != 0:
            pytest.skip("only root can make a folder of another user")
        os.chown(folder, 65534, 65534)
    remove_private_folder(make_private_folder())
    assert folder.is_symlink() or folder.exists()
    assert (precious / "lock").exists()


def test_two_runs_that_start_at_once_leave_each_other_alone(base):
    runs = [_run(base) for _ in range(4)]
    try:
        assert len({folder for _, folder in runs}) == 4
        assert all((folder / "session" / "log").exists() for _, folder in runs)
    finally:
        for process, _ in runs:
            process.kill()
            process.wait()


def test_a_socket_below_the_longest_base_fits():
    """107 bytes is Linux's limit; the process number has at most seven digits."""
    base = "/" + "b" * (LONGEST_BASE - 1)
    session = "session_2026-01-01_00-00-00_000000_4194304"
    path = f"{base}/{private_folder.PREFIX}12345678/{local_ray.RAY_FOLDER}/{session}/sockets/plasma_store"
    assert len(path) <= 107


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("/tmp/" + "a" * LONGEST_BASE, f"longer than {LONGEST_BASE} bytes"),
        ("relative", "not absolute"),
        ("/tmp/not-there", "No such file"),
        ("/etc/passwd", "not a folder"),
    ],
)
def test_a_place_that_cannot_be_used_is_one_line(monkeypatch, place, expected):
    monkeypatch.setenv("RAY_TMPDIR", place)
    with pytest.raises(UserError, match=expected) as refused:
        make_private_folder()
    assert f"RAY_TMPDIR={place}" in str(refused.value)


def test_a_place_whose_entries_others_may_rename_is_refused(base):
    base.chmod(0o777)  # without the sticky bit
    with pytest.raises(UserError, match="other users may rename"):
        make_private_folder()


def test_a_long_usual_place_gives_way_to_tmp(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    long = tmp_path / ("x" * LONGEST_BASE)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    folder = make_private_folder()
    try:
        assert folder.parent == Path("/tmp")
    finally:
        remove_private_folder(folder)


def test_a_token_of_this_run_goes_before_every_other(monkeypatch, tmp_path):
    for name, value in (("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", "other"), ("RAY_AUTH_TOKEN_PATH", "/other")):
        monkeypatch.setenv(name, value)
    token = tmp_path / "token"
    before = os.umask(0)
    try:
        local_ray._use_token(token)
    finally:
        os.umask(before)
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    text = token.read_text()
    assert len(text) == 64
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(token)
    assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & os.environ.keys()  # Ray turns it on where nothing is said
    local_ray._use_token(token)
    assert token.read_text() == text  # a second Ray of this process


def test_compiled_networks_are_kept_where_nobody_else_can_put_code(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert private_code_folder(tmp_path) == tmp_path / "cache" / "dpt_ray" / "compiled"
    assert stat.S_IMODE((tmp_path / "cache" / "dpt_ray").stat().st_mode) == 0o700
    (tmp_path / "cache" / "dpt_ray").chmod(0o777)  # somebody may have put something there
    assert private_code_folder(tmp_path / "private") == tmp_path / "private" / "compiled"
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert private_code_folder(tmp_path / "private") == tmp_path / "private" / "compiled"
