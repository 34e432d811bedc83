"""A run whose credentials expire on its way ends soon with one line; with new ones the same command goes on."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest
from fault_proxy import Fault, FaultProxy
from object_store_server import REPOSITORY
from test_whole_run_on_s3 import CONFIG, DEADLINE_SECONDS, SHORT, settings, write_data

EXPIRED = Fault("", "status", times=-1, status=400, code="ExpiredToken")
LONGEST_SECONDS = 30.0
"""Time from the expiry to the end, on busy cores. Retries of a store that fails may take 70 s."""
LONG = ("stage1.images=96000", "cluster.checkpoint_seconds=0.3")
SLOW_SAMPLING = ("sampling.per_class=40", "sampling.steps=60")


def start(script: str, folder: str, bucket: str, *more: str) -> subprocess.Popen:
    given = [*settings(bucket, f"{bucket}/results", SHORT), *more]
    words = [word for s in {s.partition("=")[0]: s for s in given}.values() for word in ("--set", s)]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "jobs" / f"{script}.py"), "--config", CONFIG, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment, "RAY_TMPDIR": folder},
    )


def wait_for(proxy: FaultProxy, request: str, job: subprocess.Popen) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not proxy.count(request, unharmed=True):
        assert job.poll() is None, job.stdout.read()
        assert time.monotonic() < deadline, f"no {request}"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("script", "request_seen", "more"),
    [
        ("train_classifier", "PUT .*/checkpoints/images_", (*LONG, "cluster.workers=0")),
        ("train_classifier", "PUT .*/checkpoints/images_", (*LONG, "cluster.workers=1")),
        ("sample", "PUT .*/shards/.*tar", SLOW_SAMPLING),
    ],
    ids=["in a training", "in a worker", "in inference"],
)
def test_a_run_whose_credentials_expire_ends_soon_with_a_line(bucket, proxy, script, request_seen, more):
    write_data(bucket)
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        job = start(script, folder, bucket, *more)
        try:
            proxy.clear()
            wait_for(proxy, request_seen, job)
            proxy.inject(EXPIRED)
            expired = time.monotonic()
            output, _ = job.communicate(timeout=DEADLINE_SECONDS)
            seconds = time.monotonic() - expired
        finally:
            job.send_signal(signal.SIGKILL)
            job.wait()
        assert job.returncode == 2, output
        (line,) = (line for line in output.splitlines() if line.startswith("error: "))
        assert "the session token has expired (ExpiredToken)" in line
        assert "Traceback" not in output
        assert seconds < LONGEST_SECONDS

        proxy.clear()
        again = start(script, folder, bucket, *more)
        output, _ = again.communicate(timeout=DEADLINE_SECONDS)
        assert again.returncode == 0, output
