"""A Ray head as in production: with its job server, behind a token, on the loopback address."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ports import free_port, wait_for

RAY = Path(sys.executable).with_name("ray")


@dataclass(frozen=True)
class Head:
    """A running head.

    Attributes:
        url: of the dashboard and job server.
        metrics_url: what Prometheus scrapes.
        environment: of the processes that use it, the token's file among it.
    """

    url: str
    metrics_url: str
    environment: dict[str, str]


@contextmanager
def ray_head(folder: Path, variables: dict[str, str], cpus: int) -> Iterator[Head]:
    """Run a head whose jobs have `variables`, as pods have those of a secret; all of it ends with the context."""
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
    environment |= {
        **variables,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the node takes the loopback address
        "RAY_metrics_report_interval_ms": "1000",  # what a laptop runs is short
        "PATH": os.pathsep.join([str(RAY.parent), os.environ["PATH"]]),  # where jobs find their python
    }
    dashboard, agent, metrics = free_port(), free_port(), free_port()
    ray_folder = Path(tempfile.mkdtemp(prefix="dpt-"))  # Ray's sockets need a short path
    log = folder / "head.log"
    process = subprocess.Popen(
        [
            *(str(RAY), "start", "--head", "--block", f"--num-cpus={cpus}", f"--temp-dir={ray_folder}"),
            *("--node-ip-address=127.0.0.1", f"--port={free_port()}", "--disable-usage-stats"),
            *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
            *(f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics}"),
        ],
        env=environment,
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        for port in (dashboard, agent):  # the agent is what runs jobs
            wait_for(port, process, log)
        yield Head(f"http://127.0.0.1:{dashboard}", f"http://127.0.0.1:{metrics}/metrics", environment)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # `ray stop` would stop every Ray of the machine
        process.wait(timeout=60)
        shutil.rmtree(ray_folder, ignore_errors=True)
        token.unlink()
