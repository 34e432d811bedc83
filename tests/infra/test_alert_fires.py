"""A real Prometheus scrapes a real run, with the shipped rules and shorter times: an alert is pending, then fires."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
ALERTS = REPOSITORY / "infra" / "observability" / "alerts.yml"
ALERT = "DptCheckpointTooOld"
LIMIT, SHORT_LIMIT = "> 900", "> 1"
PENDING_SECONDS = 4
DEADLINE_SECONDS = 400
SETTINGS = ["stage1.model.width=8", "stage1.images=640000", "cluster.checkpoint_seconds=100000"]
"""Stage 1 is long enough, and stores no checkpoint."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed (Debian: prometheus)"),
]


def _wait_for(what: str, found: Callable[[], object], process: subprocess.Popen) -> object:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (value := found()):
        assert process.poll() is None, f"a process ended before there was {what}"
        assert time.monotonic() < deadline, f"there was no {what}"
        time.sleep(0.2)
    return value


def _metrics_address(folder: Path) -> str | None:
    file = folder / "environment"
    lines = file.read_text().splitlines() if file.exists() else []
    variables = dict(shlex.split(line.removeprefix("export "))[0].split("=", 1) for line in lines)
    url = variables.get("METRICS_URL")
    return url and url.split("/")[2]


def _write_settings(folder: Path, address: str) -> Path:
    """Write Prometheus's settings and the rules, with the limit and the time to wait of one alert shortened."""
    rules = yaml.safe_load(ALERTS.read_text())
    (rule,) = [rule for group in rules["groups"] for rule in group["rules"] if rule["alert"] == ALERT]
    assert LIMIT in rule["expr"]
    rule |= {"expr": rule["expr"].replace(LIMIT, SHORT_LIMIT), "for": f"{PENDING_SECONDS}s"}
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": "ray", "static_configs": [{"targets": [address]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    return folder / "prometheus.yml"


def _states(port: int) -> dict[str, str]:
    """Return the state of each alert, as Prometheus says it."""
    try:
        answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/alerts", timeout=5).read()
    except OSError:  # it does not listen yet
        return {}
    return {alert["labels"]["alertname"]: alert["state"] for alert in json.loads(answer)["data"]["alerts"]}


def _start(command: list[str], log: Path, **options: object) -> subprocess.Popen:
    with log.open("wb") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, **options)


def test_an_alert_is_pending_and_fires_while_a_run_stores_no_checkpoint(tmp_path):
    script = [sys.executable, str(REPOSITORY / "infra" / "local" / "run.py"), str(tmp_path / "run"), "--cpus", "2"]
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    run = _start([*script, "--metrics", *words], tmp_path / "run.log", cwd=REPOSITORY, env=dict(os.environ))
    prometheus = None
    try:
        address = _wait_for("an address of metrics", lambda: _metrics_address(tmp_path / "run"), run)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        options = [f"--config.file={_write_settings(tmp_path, str(address))}", f"--storage.tsdb.path={tmp_path}/data"]
        options.append(f"--web.listen-address=127.0.0.1:{port}")
        prometheus = _start(["prometheus", *options], tmp_path / "prometheus.log", cwd=tmp_path)
        _wait_for("a pending alert", lambda: _states(port).get(ALERT) == "pending", run)
        began = time.monotonic()
        _wait_for("a firing alert", lambda: _states(port).get(ALERT) == "firing", run)
        assert time.monotonic() - began > PENDING_SECONDS / 2
    except AssertionError as error:
        raise AssertionError(f"{error}\n{(tmp_path / 'run.log').read_text()}") from error
    finally:
        for process in (prometheus, run):
            if process is not None:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=120)
