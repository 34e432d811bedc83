"""The door that users take: `ray job submit` to a head with a token, with data and results in an object store.

One run of `infra/local/run.py` serves all tests here: what it leaves in the bucket, exports and logs on its way, and
who is kept out of it.
"""

import json
import os
import re
import selectors
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from s3fs import S3FileSystem

from dpt_ray.distributed.metrics import METRICS

pytestmark = pytest.mark.ray_start
REPOSITORY = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
DASHBOARD = REPOSITORY / "infra" / "observability" / "dashboard.json"
SETTINGS = [
    "stage1.model.width=8",
    "stage1.images=1600",
    "stage2.model.dim=32",
    "stage2.images=640",
    "stage3.images=1600",
    "sampling.per_class=12",
    "sampling.steps=6",
    "sampling.images_per_shard=20",
    "cluster.checkpoint_seconds=0.05",
]
DEADLINE_SECONDS = 400
SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\S+)$")


@dataclass
class LocalRun:
    """A finished run whose store and head are still there.

    Attributes:
        lines: what the script printed.
        variables: what another shell sources.
        seen: every series that was scraped on the way, with its last value.
        process: the script.
        folder: its folder.
    """

    lines: list[str]
    variables: dict[str, str]
    seen: dict[str, float]
    process: subprocess.Popen
    folder: Path

    @property
    def names(self) -> set[str]:
        return {series.partition("{")[0] for series in self.seen}

    def values(self, name: str) -> dict[str, float]:
        """The last value of one of our metrics for each step."""
        own = {series: value for series, value in self.seen.items() if series.startswith(f"{name}{{")}
        assert all('run="digits"' in series for series in own)
        return {re.search(r'step="([^"]*)"', series).group(1): value for series, value in own.items()}

    @property
    def environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
        return {**own, **self.variables}

    def client(self) -> S3FileSystem:
        return S3FileSystem(
            key=self.variables["AWS_ACCESS_KEY_ID"],
            secret=self.variables["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=self.variables["AWS_ENDPOINT_URL"],
            client_kwargs={"region_name": self.variables["AWS_REGION"]},
            skip_instance_cache=True,
        )


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The script's run from an empty bucket; it must end all that it began."""
    folder = tmp_path_factory.mktemp("local")
    script = [sys.executable, str(REPOSITORY / "infra" / "local" / "run.py"), str(folder), "--cpus", "2", "--keep"]
    script.append("--metrics")
    process = subprocess.Popen(
        script + [word for setting in SETTINGS for word in ("--set", setting)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "DPT_LOG_FORMAT": "json"},
    )
    started: list[psutil.Process] = []
    try:
        lines, seen = _follow(process, folder)
        variables = _variables(folder)
        started = psutil.Process(process.pid).children(recursive=True)
        yield LocalRun(lines, variables, seen, process, folder)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive, "processes outlived the script"
    assert not (folder / "environment").exists()
    assert not (folder / "token").exists()


def _variables(folder: Path) -> dict[str, str]:
    file = folder / "environment"
    text = file.read_text() if file.exists() else ""
    return dict(shlex.split(line.removeprefix("export "))[0].split("=", 1) for line in text.splitlines())


def _follow(process: subprocess.Popen, folder: Path) -> tuple[list[str], dict[str, float]]:
    """Scrape each second until the script says that it keeps running."""
    deadline, text, seen = time.monotonic() + DEADLINE_SECONDS, b"", {}
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        scraped = 0.0
        while b"kept running" not in text:
            assert time.monotonic() < deadline, text.decode()
            if selector.select(timeout=1):
                piece = os.read(process.stdout.fileno(), 1 << 16)
                assert piece, text.decode()  # it ended
                text += piece
            if time.monotonic() - scraped >= 1 and (url := _variables(folder).get("METRICS_URL")):
                scraped = time.monotonic()
                seen |= _scrape(url)
    return text.decode().splitlines(), seen


def _scrape(url: str) -> dict[str, float]:
    try:
        text = urllib.request.urlopen(url, timeout=5).read().decode()
    except OSError:  # it does not listen yet
        return {}
    samples = [match.groups() for line in text.splitlines() if (match := SAMPLE.match(line))]
    return {f"{name}{{{labels}}}": float(value) for name, labels, value in samples}


def test_the_report_and_all_else_is_in_the_bucket(local):
    client = local.client()
    assert client.exists("dpt/results/runs/digits/report.html")
    assert len(client.ls("dpt/data/train")) == 6
    report = (local.folder / "report.html").read_text()
    assert "stage 3 accuracy" in report
    assert report == client.cat_file("dpt/results/runs/digits/report.html").decode()


def test_every_query_of_the_dashboard_names_a_metric_that_the_run_exported(local):
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    only_with_gpus = {"ray_node_gpus_utilization"}
    assert {name.removeprefix("ray_") for name in only_with_gpus} <= set(METRICS_GAUGES)
    asked = queried_metrics()
    assert len(asked) > 10
    assert asked - local.names - only_with_gpus == set()


def test_a_metric_that_is_not_exported_would_be_found(local):
    assert "ray_dpt_image_total" not in local.names
    assert {"ray_dpt_image_total"} == metrics_of('sum by (run) (rate(ray_dpt_image_total{run=~"$run"}[$__interval]))')


def test_metrics_say_what_the_run_did(local):
    assert local.names >= {f"ray_{metric.name}" for metric in METRICS}
    images = local.values("ray_dpt_images_total")
    assert images["stage 1 classifier"] == 1600 == images["stage 3 classifier"]
    assert images["stage 2 generator"] == 640
    assert images["pseudo images"] == 120
    assert local.values("ray_dpt_shards_total")["pseudo images"] == 6
    assert local.values("ray_dpt_progress_ratio")["stage 2 generator"] == 1
    waited, trained = (local.values(f"ray_dpt_{name}_seconds_total") for name in ("data_wait", "training"))
    assert all(0 < waited[step] <= trained[step] for step in trained)
    assert len(trained) == 3
    assert local.values("ray_dpt_checkpoints_total")["stage 1 classifier"] >= 1
    assert local.values("ray_dpt_checkpoint_seconds_total")["stage 1 classifier"] > 0


def test_the_log_is_a_json_object_a_line_with_run_and_step(local):
    records = [json.loads(line) for line in local.lines if line.startswith("{")]
    done = [record for record in records if record["event"] == "step_done"]
    assert len({record["artifact"] for record in done}) == len(done) >= 13
    assert {record["run"] for record in done} == {"digits"}
    assert all(record["seconds"] >= 0 and record["step"] in record["message"] for record in done)
    progress = [r for r in records if r["event"] == "progress" and r["step"] == "stage 1 classifier"]
    assert progress[-1]["done"] == progress[-1]["total"] == 1600
    assert progress[-1]["loss"] > 0
    assert progress[-1]["artifact"].startswith("classifier/")
    told = {(record["level"], record["event"]) for record in records if record["level"] != "info"}
    assert told <= {("warning", "setting_warning"), ("warning", "result_warning")}  # of a run with tiny settings


def queried_metrics() -> set[str]:
    """The metrics of all the dashboard's queries."""
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [entry["definition"] for entry in dashboard["templating"]["list"] if entry["type"] == "query"]
    return set().union(*map(metrics_of, queries))


def metrics_of(query: str) -> set[str]:
    """The metrics that a query names: what is neither a function, a label, a value of one, nor a duration."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(by|without|on|ignoring) ?\([^)]*\)', " ", query)
    words = set(re.findall(r"[a-zA-Z_:][\w:]*(?!\w*\s*\()", bare))
    return words - {"run", "step", "or", "bool"}


@pytest.mark.parametrize("token", [None, "0" * 64])
def test_without_the_token_nobody_sees_or_submits_jobs(local, token):
    request = urllib.request.Request(f"{local.variables['RAY_API_SERVER_ADDRESS']}/api/jobs/")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    assert refused.value.code in (401, 403)


def test_a_submission_with_a_wrong_token_is_refused(local, tmp_path):
    (tmp_path / "token").write_text("0" * 64)
    job = _submit(local, "dpt_full", RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    assert job.returncode != 0
    assert "401" in job.stdout + job.stderr or "403" in job.stdout + job.stderr or "uthenti" in job.stdout + job.stderr


def test_the_bucket_is_closed_to_those_without_the_secret(local):
    url = local.variables["AWS_ENDPOINT_URL"]
    for place in ("dpt", "dpt/results/runs/digits/report.html"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{url}/{place}", timeout=10)
        assert refused.value.code in (400, 401, 403, 412)  # Swift has one for buckets, another for objects
    wrong = local.client()
    wrong = S3FileSystem(
        key=wrong.key, secret="wrong", endpoint_url=url, client_kwargs=wrong.client_kwargs, skip_instance_cache=True
    )
    with pytest.raises(PermissionError):
        wrong.ls("dpt")


def test_no_secret_is_in_a_log_or_in_the_bucket(local):
    secrets = [local.variables["AWS_SECRET_ACCESS_KEY"], Path(local.variables["RAY_AUTH_TOKEN_PATH"]).read_text()]
    client = local.client()
    texts = ["\n".join(local.lines).encode()]
    texts += [path.read_bytes() for path in local.folder.glob("*.log")]
    texts += [client.cat_file(place) for place in client.find("dpt/results") if place.endswith((".json", ".yaml"))]
    assert len(texts) > 20
    assert not [text for text in texts for secret in secrets if secret.encode() in text]
    for name in ("environment", "token"):
        assert (local.folder / name).stat().st_mode & 0o077 == 0


def test_servers_listen_on_the_loopback_address(local):
    """All but those of Ray that have no setting for it (see docs/guide/cluster/observability.md)."""
    ports = {int(url.rpartition(":")[2].partition("/")[0]) for name, url in local.variables.items() if "http" in url}
    ports -= {int(local.variables["METRICS_URL"].rpartition(":")[2].partition("/")[0])}
    addresses = {
        connection.laddr.ip
        for process in psutil.Process(local.process.pid).children(recursive=True)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port in ports
    }
    assert addresses == {"127.0.0.1"}


def test_a_job_that_fails_says_why_in_its_last_lines(local, tmp_path):
    places = {"data.train": f"{tmp_path}/nowhere", "data.test": tmp_path, "root": f"{tmp_path}/results"}
    job = _submit(local, "prepare_data", *(word for name in places for word in ("--set", f"{name}={places[name]}")))
    assert job.returncode != 0
    assert f"error: {tmp_path}/nowhere: does not exist" in job.stdout + job.stderr


def _submit(local: LocalRun, script: str, *words: str, **changes: str) -> subprocess.CompletedProcess:
    command = [RAY, "job", "submit", "--address", local.variables["RAY_API_SERVER_ADDRESS"], "--working-dir", "."]
    return subprocess.run(
        [*command, "--", "python", f"jobs/{script}.py", *words],
        cwd=REPOSITORY,
        env={**local.environment, **changes},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
