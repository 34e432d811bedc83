"""A command runs in a child process: its end becomes the exit status, and a silent one becomes a line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dpt_ray.errors import RESUME

PROGRAM = """
import os, signal, sys, time
from dpt_ray.cli.guard import run_guarded
from dpt_ray.cli.supervisor import supervised

def say(word):
    print(word, os.getpid(), flush=True)

def wait():
    try:
        say("ready")
        for _ in range(600):
            time.sleep(0.1)  # one long sleep would go on if a signal came just before it
    finally:
        say("leaving")
        time.sleep(0.3)  # a second signal would interrupt this
        say("left")

def run():
    {body}

sys.exit(supervised(run))
"""


def start(body: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(body=body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [("return 0", 0), ("return 1", 1), ("raise SystemExit(1)", 1), ("return 75", 75), ("os._exit(130)", 130)],
)
def test_the_exit_status_is_that_of_the_child(body, status):
    program = start(body)
    assert program.communicate(timeout=60) == ("", "")
    assert program.returncode == status


def test_a_command_whose_parent_ignores_the_end_of_children_ends():
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        program = start("return 3")
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert program.communicate(timeout=60) == ("", "")
    assert program.returncode == 3


def test_an_error_is_told_once():
    program = start("raise ValueError('a mistake')")
    _, told = program.communicate(timeout=60)
    assert (program.returncode, told.count("Traceback"), told.count("ValueError: a mistake")) == (1, 1, 1)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("os._exit(1)", "Ray's node manager (raylet) died"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "the job's process was ended by SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the job's process was ended by SIGSEGV"),
    ],
)
def test_a_child_that_ends_without_a_word_becomes_a_line(body, what):
    program = start(body)
    _, told = program.communicate(timeout=60)
    assert program.returncode == os.EX_TEMPFAIL
    (line,) = told.splitlines()
    assert line.startswith(f"error: {what}")
    assert RESUME in line


def test_a_process_that_the_child_has_forked_is_not_waited_for():
    program = start("os.fork() or time.sleep(100); os._exit(1)")
    try:
        assert program.wait(timeout=50) == os.EX_TEMPFAIL
    finally:
        os.killpg(program.pid, signal.SIGKILL)
        program.communicate()


@pytest.mark.parametrize("to_group", [False, True], ids=["to the command", "to its group, as Ctrl-C in a terminal"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, os.EX_TEMPFAIL)])
def test_a_signal_reaches_the_child_once(to_group, number, status):
    program = start("return run_guarded(wait)")
    assert program.stdout.readline().startswith("ready")
    (os.killpg if to_group else os.kill)(program.pid, number)
    said, told = program.communicate(timeout=60)
    assert [line.split()[0] for line in said.splitlines()] == ["leaving", "left"]
    assert program.returncode == status
    assert told.splitlines()[-1].endswith(RESUME)


def test_a_signal_that_nobody_handles_ends_both():
    program = start("say('ready'); time.sleep(60)")
    program.stdout.readline()
    program.send_signal(signal.SIGTERM)
    assert program.communicate(timeout=60) == ("", "")
    assert program.returncode == -signal.SIGTERM


def test_a_killed_command_takes_its_child_along():
    program = start("say('ready'); time.sleep(60)")
    child = int(program.stdout.readline().split()[1])
    assert child != program.pid
    program.kill()
    program.communicate(timeout=30)  # the child held the pipes
    deadline = time.monotonic() + 30
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
