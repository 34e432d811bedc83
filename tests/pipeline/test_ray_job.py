"""The door that users take: a Ray head, and `ray job submit` of a job script from the working folder."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest
from tiny_runs import REPOSITORY, arguments

RAY = str(Path(sys.executable).with_name("ray"))
START_SECONDS, JOB_SECONDS = 90, 300


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A Ray head of its own on the loopback address, with its job server; its address and environment."""
    folder = tmp_path_factory.mktemp("head")
    dashboard, agent, gcs = _free_port(), _free_port(), _free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    token = folder / "token"
    token.write_text("0123456789abcdef0123456789abcdef")
    token.chmod(0o600)
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    environment["PATH"] = os.pathsep.join([str(Path(RAY).parent), environment["PATH"]])  # an activated environment
    environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # loopback only
    command = [
        RAY,
        "start",
        "--head",
        "--block",
        "--num-cpus=2",
        f"--port={gcs}",
        "--dashboard-host=127.0.0.1",
    ]
    # Ray's sockets need a short path.
    ray_folder = Path(tempfile.gettempdir(), f"dpt-{os.getpid()}")
    command += [f"--dashboard-port={dashboard}", f"--temp-dir={ray_folder}"]
    command += [f"--dashboard-agent-listen-port={agent}"]  # another Ray of this machine may have the usual one
    log = folder / "head.log"
    process = subprocess.Popen(
        command, env=environment, stdout=log.open("w"), stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        for port in (dashboard, agent):  # the agent is what runs jobs
            _wait_for(port, process, log)
        yield (
            f"http://127.0.0.1:{dashboard}",
            environment | {"AGENT": f"http://127.0.0.1:{agent}", "GCS": f"127.0.0.1:{gcs}"},
        )
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # `ray stop` would stop every Ray of the machine
        process.wait(timeout=60)
        shutil.rmtree(ray_folder, ignore_errors=True)


def _wait_for(port: int, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)


def _submit(head, script: str, *words: str) -> subprocess.CompletedProcess:
    address, environment = head
    command = [RAY, "job", "submit", "--address", address, "--working-dir", "."]
    return subprocess.run(
        [*command, "--", "python", f"jobs/{script}.py", *words],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=JOB_SECONDS,
        check=False,
    )


def test_a_submitted_job_runs_on_the_cluster_and_ends_with_its_report(head, tmp_path):
    words = arguments(tmp_path, "stage1.images=1600", "stage2.images=1600", "stage3.images=1600")
    words[words.index("--config") + 1] = "configs/digits.yaml"  # as the working folder has it
    job = _submit(head, "dpt_full", *words)
    assert job.returncode == 0, job.stdout + job.stderr
    assert (tmp_path / "runs" / "digits" / "report.html").exists()
    lines = [line for line in job.stdout.splitlines() if line.strip()]
    told = next(line for line in lines if line.startswith("report: "))
    assert told.endswith("runs/digits/report.html")
    assert any("stage 3 accuracy" in line for line in lines)
    assert "succeeded" in job.stdout


def test_a_job_that_fails_says_why_in_its_last_lines(head, tmp_path):
    job = _submit(head, "prepare_data", "--set", f"data.train={tmp_path}/nowhere", "--set", f"data.test={tmp_path}")
    assert job.returncode != 0
    assert f"error: {tmp_path}/nowhere: does not exist" in job.stdout + job.stderr


def _status(url: str, token: str | None, body: bytes | None = None) -> int:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers), timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("token", [None, "f" * 32], ids=["without a token", "with a wrong token"])
def test_whoever_has_not_the_token_is_refused(head, tmp_path, token):
    address, environment = head
    right = Path(environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    harm = b'{"entrypoint": "touch %s/harm"}' % str(tmp_path).encode()
    assert _status(f"{address}/api/jobs/", right) == 200
    for url, body in (
        (f"{address}/api/jobs/", harm),
        (f"{address}/api/jobs/", None),
        (f"{address}/api/v0/tasks", None),
        (f"{address}/nodes?view=summary", None),
        (f"{environment['AGENT']}/api/job_agent/jobs/", harm),
    ):
        assert _status(url, token, body) in (401, 403), url
    # The port of Ray's own protocol, by which code reaches workers without any job.
    assert _call(environment["GCS"], right) is None
    assert _call(environment["GCS"], token) == grpc.StatusCode.UNAUTHENTICATED
    assert not (tmp_path / "harm").exists()


def _call(address: str, token: str | None) -> grpc.StatusCode | None:
    """Ask Ray's control store for the names it keeps; return the status if it is an error."""
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary("/ray.rpc.InternalKVGcsService/InternalKVKeys")
        try:
            method(b"", timeout=30, metadata=[("authorization", f"Bearer {token}")] if token else [])
        except grpc.RpcError as error:
            return error.code()
    return None


def test_health_is_told_without_a_token(head):
    """Kubernetes' probes have none."""
    address, environment = head
    assert _status(f"{address}/api/gcs_healthz", None) == 200
    assert _status(f"{environment['AGENT']}/api/healthz", None) == 200
