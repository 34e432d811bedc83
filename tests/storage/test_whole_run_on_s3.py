"""The whole method with data and results on object storage that fails, slows down and is cut off.

Its results are those of the same run on local folders, also if the job is killed on its way and begun again.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from fault_proxy import Fault, FaultProxy
from object_store_server import REPOSITORY, SECRET

from dpt_ray.cli.job import run_job
from dpt_ray.config.load import load_config
from dpt_ray.data.images.decoding import encode_png
from dpt_ray.data.shards.samples import Sample, build_shard
from dpt_ray.data.storage import stores
from dpt_ray.pipeline.artifacts.store import ArtifactStore
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.run_report import finish_run

CONFIG = str(REPOSITORY / "configs" / "digits.yaml")
SETTINGS = [
    "data.num_classes=3",
    "stage1.model.width=8",
    "stage2.model.dim=32",
    "stage2.images=640",
    "sampling.per_class=4",
    "sampling.steps=4",
    "sampling.images_per_shard=6",
    "stage3.images=1600",
    "cluster.local_cpus=2",
]
KEPT_LOGS = "kept"
JOB_THAT_KEEPS_LOGS = f"""
import os, runpy, sys
from dpt_ray.distributed import local_ray
remove = local_ray.remove_private_folder
def keep_logs(folder):
    os.rename(folder / local_ray.RAY_FOLDER, os.path.join(os.environ["RAY_TMPDIR"], "{KEPT_LOGS}"))
    remove(folder)
local_ray.remove_private_folder = keep_logs
del sys.argv[0]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""The job as it is, but for Ray's logs: they are kept when the job's private folder is removed."""
SHORT = "stage1.images=1600"
LONG_ENOUGH_TO_KILL = "stage1.images=96000"  # several times what two checkpoints take on this store
OFTEN_ENOUGH_TO_KILL = "cluster.checkpoint_seconds=0.3"
FAULTS = [
    Fault("GET .*train/.*tar", "reset_body", after=2000, times=3),
    Fault("GET .*train/.*tar", "cut_body", after=2000, times=2, skip=4),
    Fault("GET .*list-type", "status", times=3, skip=2),
    Fault("GET .*network", "status", times=2, status=500, code="InternalError"),
    Fault("GET .*checkpoints/", "reset", times=2),
    Fault("PUT .*checkpoints/", "status", times=3, skip=1),
    Fault("PUT .*checkpoints/", "lost", times=1, skip=4),
    Fault("PUT .*network", "lost"),
    Fault("PUT .*tar", "reset", times=2),
    Fault("PUT .*parquet", "status", times=2, status=429, code="TooManyRequests"),
    Fault("HEAD", "status", times=4, skip=10),
    Fault("POST|DELETE", "status", times=2),
    Fault("", "slow", rate=100_000, times=20, skip=30),
]
DEADLINE_SECONDS = 300


def settings(base: str, results: str, length: str) -> list[str]:
    return [*SETTINGS, length, f"data.train={base}/train", f"data.test={base}/test", f"root={results}"]


def arguments(base: str, results: str, length: str, *more: str) -> list[str]:
    """The command line of a run."""
    words = [word for setting in [*settings(base, results, length), *more] for word in ("--set", setting)]
    return ["--config", CONFIG, *words]


def write_data(base: str) -> None:
    """Write images of three classes, told apart by where they are bright."""
    generator = np.random.default_rng(0)
    for split, shards in (("train", 3), ("test", 1)):
        for shard in range(shards):
            samples = []
            for row in range(24):
                pixels = generator.integers(0, 60, (1, 8, 8), dtype=np.uint8)
                pixels[0, :, 3 * (row % 3) : 3 * (row % 3) + 2] += 150
                files = {"png": encode_png(pixels), "cls": str(row % 3).encode()}
                samples.append(Sample(f"image-{shard}-{row:02d}", files))
            stores.write_bytes(f"{base}/{split}/{shard}.tar", build_shard(samples))


def finish(job: subprocess.Popen) -> str:
    output, _ = job.communicate(timeout=DEADLINE_SECONDS)
    assert job.returncode == 0, output
    return output


def results_of(base: str, results: str, length: str) -> dict[str, bytes]:
    """The content of every file that must be equal, by step and name."""
    run = build(load_config(CONFIG, settings(base, results, length)))
    found = {}
    for step, folder in [
        (run.classifier, ""),
        (run.pseudo_labels, "predictions"),
        (run.generator, ""),
        (run.pseudo_images, "shards"),
        (run.retrained, ""),
    ]:
        artifact = ArtifactStore(results).find(step.name, step.fingerprint)
        assert artifact is not None, step.title
        for file in stores.list_files(artifact.file(folder) if folder else artifact.url):
            if not file["name"].endswith(".json") or file["name"] == "history.json":
                found[f"{step.title}: {file['name']}"] = stores.read_bytes(file["url"])
    return found


@pytest.fixture
def ray_folder():
    """A folder of short path for Ray's sockets and logs."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def kill_at_a_checkpoint(job: subprocess.Popen, proxy: FaultProxy) -> str:
    """Kill the job when Ray Train puts the second checkpoint on its list, so that the first one is there."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while proxy.count("PUT .*/checkpoint_manager_snapshot.json", unharmed=True) < 2:
        assert job.poll() is None, job.stdout.read()
        assert time.monotonic() < deadline, "there never was a checkpoint"
        time.sleep(0.1)
    job.send_signal(signal.SIGKILL)
    return job.communicate()[0]


@pytest.fixture
def start(ray_folder):
    """Start the job as a user does: a process with the AWS variables in its environment. None outlives the test."""
    jobs, script = [], str(REPOSITORY / "jobs" / "dpt_full.py")

    def start(*run: str) -> subprocess.Popen:
        job = subprocess.Popen(
            [sys.executable, "-c", JOB_THAT_KEEPS_LOGS, script, *arguments(*run), "--set", "cluster.workers=1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**{k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}, "RAY_TMPDIR": ray_folder},
        )
        jobs.append(job)
        return job

    yield start
    for job in jobs:
        job.kill()
        job.wait()


@pytest.mark.slow
@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(("killed", "length"), [(False, SHORT), (True, LONG_ENOUGH_TO_KILL)], ids=["whole", "killed"])
def test_a_run_on_a_failing_store_ends_as_one_on_local_folders(
    local_ray, bucket, client, proxy, tmp_path, ray_folder, start, killed, length
):
    local, remote, results = str(tmp_path), bucket, f"{bucket}/results"
    write_data(local)
    write_data(remote)
    proxy.inject(*FAULTS)
    outputs = []
    if killed:
        outputs.append(kill_at_a_checkpoint(start(remote, results, length, OFTEN_ENOUGH_TO_KILL), proxy))
    job = start(remote, results, length)
    assert run_job("test", lambda run: run.steps(), finish_run, arguments(local, f"{local}/results", length)) == 0
    outputs.append(finish(job))
    assert ("stage 1 classifier: goes on from" in outputs[-1]) == killed

    expected = results_of(local, f"{local}/results", length)
    assert len(expected) >= 3 * 2 + 3 + 2
    assert results_of(remote, results, length) == expected
    assert {request.fault for request in proxy.seen} >= {fault.kind for fault in FAULTS}
    assert not [place for place in client.find(bucket) if SECRET.encode() in client.cat_file(place)]
    assert not [output for output in outputs if SECRET in output]
    logs = [path for path in Path(ray_folder, KEPT_LOGS).rglob("*") if path.is_file()]
    assert [path for path in logs if path.name == "raylet.out"]
    assert not [path for path in logs if SECRET.encode() in path.read_bytes()]
