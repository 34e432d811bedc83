"""Start a Ray head as in production, with a job server and a token, on the loopback address."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from logs import open_log
from ports import free_port, wait_for

from dpt_ray.distributed.local_ray import RAY_FOLDER, WITHOUT_METRICS
from dpt_ray.distributed.private_folder import make_private_folder, remove_private_folder

RAY = Path(sys.executable).with_name("ray")


@dataclass(frozen=True)
class Head:
    """A running head.

    Attributes:
        url: URL of the dashboard and job server.
        metrics_url: URL that Prometheus scrapes; None if metrics are off.
        environment: environment variables of processes that use the head, including the path of the token.
    """

    url: str
    metrics_url: str | None
    environment: dict[str, str]


@contextmanager
def ray_head(folder: Path, variables: dict[str, str], cpus: int, *, metrics: bool = False) -> Iterator[Head]:
    """Run a head until the context ends. Its jobs inherit `variables`, as pods do from a Secret.

    Args:
        folder: holds the token and the log.
        variables: environment variables of its jobs.
        cpus: number of CPUs for jobs.
        metrics: whether to serve metrics. Ray serves them to every user of this machine, without the token.
    """
    token = folder / "token"
    token.unlink(missing_ok=True)  # left by a run that was killed
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
    environment |= {
        **variables,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # otherwise the node does not use the loopback address
        "RAY_metrics_report_interval_ms": "1000",  # runs on a laptop are short
        "RAY_enable_metrics_collection": str(int(metrics)),
        **WITHOUT_METRICS,  # those of the monitor and the dashboard, which are not needed
        "PATH": os.pathsep.join([str(RAY.parent), os.environ["PATH"]]),  # where jobs find their python
    }
    dashboard, agent, metrics_port = free_port(), free_port(), free_port()
    private = make_private_folder()
    log = folder / "head.log"
    process = subprocess.Popen(
        [
            *(str(RAY), "start", "--head", "--block", f"--num-cpus={cpus}", f"--temp-dir={private / RAY_FOLDER}"),
            *("--node-ip-address=127.0.0.1", f"--port={free_port()}", "--disable-usage-stats"),
            *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
            *(f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics_port}"),
        ],
        env=environment,
        stdout=open_log(log),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        for port in (dashboard, agent):  # the agent runs the jobs
            wait_for(port, process, log)
        metrics_url = f"http://127.0.0.1:{metrics_port}/metrics" if metrics else None
        yield Head(f"http://127.0.0.1:{dashboard}", metrics_url, environment)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # `ray stop` would stop every Ray of the machine
        process.wait(timeout=60)
        remove_private_folder(private)
        token.unlink()
