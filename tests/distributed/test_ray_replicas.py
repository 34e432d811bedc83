"""The gallery's networks on Ray Serve: the same answers, several batches at a time, and none lost with a replica."""

import base64
import io
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from exported_runs import write_run
from ray_processes import command, descendants
from running_service import running_service

import dpt_ray
from dpt_ray.data.images.decoding import encode_png
from dpt_ray.errors import UserError
from dpt_ray.serving.limits import Limits
from dpt_ray.serving.serve_models import find_exports
from dpt_ray.serving.served_networks import ServedNetworks

pytest.importorskip("ray.serve", reason="Ray Serve's packages are not installed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    torch.set_num_threads(1)
    run = write_run(tmp_path_factory.mktemp("results"))[0]
    return find_exports([run], str(tmp_path_factory.mktemp("exports")))


@pytest.fixture(scope="module")
def replicas(exports, connect_ray):
    from dpt_ray.serving.ray_replicas import RayReplicas

    connect_ray()
    networks = RayReplicas(*exports, "cpu", 2)
    yield networks
    networks.close()


def pixels(answer) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))) for png in answer.json["images"]])


def test_replicas_answer_as_the_networks_do(replicas, exports):
    assert replicas.describe() == ServedNetworks(*exports).describe()
    expected = dpt_ray.load_generator(exports[0]).sample([1] * 3, seed=4, steps=2).numpy()[:, 0].astype(int)
    with running_service(replicas) as running:
        answer = running.draw(**{"class": "bee", "images": 3, "seed": 4, "steps": 2})
        assert np.abs(pixels(answer).astype(int) - expected).max() <= 1
        assert running.classify(encode_png(np.zeros((1, 8, 8), np.uint8))).status == 200
        assert running.classify(b"no image").status == 422
        assert running.draw(**{"class": 0, "sampler": "nix"}).status == 422
        assert running.ask("GET", "/healthz").json["status"] == "ok"


def test_a_replica_that_is_killed_under_load_loses_no_request(replicas):
    pids = replica_processes()
    assert len(pids) == 2
    with running_service(replicas, Limits(held=64, batch=2)) as running:
        with ThreadPoolExecutor(16) as pool:
            asked = [pool.submit(running.draw, **{"class": n % 3, "images": 1, "seed": n}) for n in range(150)]
            while sum(each.done() for each in asked) < 20:
                time.sleep(0.01)
            os.kill(pids[0], signal.SIGKILL)
            statuses = [each.result().status for each in asked]
        assert statuses == [200] * 150
        deadline = time.monotonic() + 120
        while running.ask("GET", "/healthz").status != 200 or len(replica_processes()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def replica_processes() -> list[int]:
    """The processes of living replicas."""
    return [process for process in descendants(os.getpid()) if "ServeReplica" in command(process)]


def test_more_replicas_than_cpus_are_refused(exports, replicas):
    from dpt_ray.serving.ray_replicas import RayReplicas

    with pytest.raises(UserError, match="99 replicas need as many CPUs, and Ray has 2; give fewer"):
        RayReplicas(*exports, "cpu", 99)
