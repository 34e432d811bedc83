"""Who has not the token is kept out of every port of a Ray head. That jobs run there: `infra/test_local_run.py`."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest

from dpt_ray.distributed.local_ray import RAY_FOLDER
from dpt_ray.distributed.private_folder import make_private_folder, remove_private_folder

pytestmark = pytest.mark.ray_start
RAY = str(Path(sys.executable).with_name("ray"))
START_SECONDS = 90


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
    private = make_private_folder()
    command += [f"--dashboard-port={dashboard}", f"--temp-dir={private / RAY_FOLDER}"]
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
        remove_private_folder(private)


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


JOIN = """
import time
from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.distributed.connection import connect
from dpt_ray.errors import UserError
began = time.monotonic()
try:
    connect(ClusterConfig())
    print("joined")
except UserError as error:
    print(f"{time.monotonic() - began:.1f} s: {error}")
"""


def test_who_cannot_join_is_told_why_in_a_line_and_in_time(head, tmp_path):
    url, environment = head
    wrong = tmp_path / "token"
    wrong.write_text("f" * 32)
    wrong.chmod(0o600)
    without = {name: value for name, value in environment.items() if not name.startswith("RAY_AUTH")}
    without["HOME"] = str(tmp_path)  # where Ray looks for a token besides
    dashboard, gcs = url.partition("//")[2], environment["GCS"]
    cases = {
        "is the port of a dashboard or job server": (dashboard, without),
        "that cluster requires a token, and this process sends none; set RAY_AUTH_MODE=token": (gcs, without),
        "that cluster refuses the token": (gcs, environment | {"RAY_AUTH_TOKEN_PATH": str(wrong)}),
        "RAY_AUTH_MODE is token, and no token can be read": (gcs, without | {"RAY_AUTH_MODE": "token"}),
        "": (gcs, environment),
    }
    for told, (address, given) in cases.items():
        given = given | {"RAY_ADDRESS": address}
        output = subprocess.run([sys.executable, "-c", JOIN], env=given, stdout=subprocess.PIPE, text=True).stdout
        seconds, _, line = output.strip().partition(" s: ")
        if not told:
            assert output == "joined\n"
            continue
        assert line.startswith(f"RAY_ADDRESS={address}: "), output
        assert told in line
        assert float(seconds) < 20
