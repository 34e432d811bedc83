"""`dpt serve`: what it refuses in one line, and a process that serves until a signal and ends with status 0."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest
from exported_runs import write_run

from dpt_ray.cli.main import dpt
from dpt_ray.cli.running import run_command


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    return write_run(tmp_path_factory.mktemp("results"))[0]


def refused(capsys, *words: str) -> str:
    """The one line of a command that ends with status 2."""
    assert run_command(dpt, ["serve", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_cannot_be_served_is_refused_in_one_line(run, capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("DPT_SERVE_TOKEN", raising=False)
    assert "others could reach the service there, so it needs a token" in refused(capsys, run, "--host", "0.0.0.0")
    assert "holds no exported classifier" in refused(capsys, str(tmp_path))
    assert "--max-images: at most --batch=4, not 8" in refused(capsys, run, "--batch", "4", "--max-images", "8")
    assert "cannot be used here" in refused(capsys, run, "--device", "cuda:77")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused(capsys, run, "--port", str(port))
    assert f"127.0.0.1:{port}: cannot be listened on (" in line
    assert line.endswith("give another --port")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_serves_until_a_signal(run, number):
    """Started with SIGINT as a terminal gives it: a shell's background commands have it ignored."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dpt_ray", "serve", run, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "DPT_SERVE_TOKEN")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        line = process.stdout.readline()
        port = int(re.fullmatch(r"gallery: http://127\.0\.0\.1:(\d+)/; Ctrl-C ends it\n", line)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/api/images", b'{"class": 1}', {"Content-Type": "application/json"})
        assert len(json.loads(connection.getresponse().read())["images"]) == 4
        process.send_signal(number)
        rest, _ = process.communicate(timeout=60)
        assert (process.returncode, rest) == (0, "ended after 1 answer\n")
    finally:
        process.kill()
        process.wait()
