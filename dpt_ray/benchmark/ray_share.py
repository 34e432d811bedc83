"""The overhead of Ray Train: the same training steps in a worker and without Ray."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from dpt_ray.benchmark.generator_figures import RayShare
from dpt_ray.benchmark.generator_job import IMAGES, LANES, GeneratorJob, wait_for_device
from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.config.data_section import DataConfig
from dpt_ray.core.training.compute import compile_network
from dpt_ray.core.training.loop import train
from dpt_ray.core.training.state import TrainState
from dpt_ray.data.images.decoding import ImageForm, encode_png
from dpt_ray.data.loading.feed import training_batches
from dpt_ray.data.loading.source import ImageSource, SourceShard
from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.samples import Sample, build_shard, sha256
from dpt_ray.data.storage import stores
from dpt_ray.networks.files import NETWORK_FILE

SKIPPED_STEPS = 3
"""Number of first steps that are not timed, because they allocate memory and compile."""


def measure_ray_share(job: GeneratorJob, steps: int, say: Callable[[str], None]) -> RayShare:
    """Time the same steps under Ray Train, with kept images, and without it; two rounds in turns."""
    from dpt_ray.distributed.connection import connect
    from dpt_ray.distributed.progress import ProgressLine
    from dpt_ray.distributed.ray_training import run_training
    from dpt_ray.distributed.resources import Resources
    from dpt_ray.distributed.training_job import TrainingJob

    threads = torch.get_num_threads()
    connect(ClusterConfig(local_cpus=threads + 1))
    under_ray, alone = [], []
    for round_number in range(2):
        with tempfile.TemporaryDirectory() as folder:
            source = _shards(job, folder)
            training = TrainingJob(
                config=job.config,
                data=DataConfig(lanes=LANES, shuffle_window=IMAGES),
                cluster=ClusterConfig(compile=job.compiled, max_failures=0),
                build=partial(_clocked_state, job),
                finish=_clocked_file,
                sources={"images": (source, job.batch)},
                schedule=job.schedule(steps * job.batch),
                seed=0,
                folder=f"{folder}/training",
            )
            run_training(
                training,
                resources=Resources(1, threads, 1 if job.device == "cuda" else 0),
                progress=ProgressLine("under Ray Train", steps * job.batch, "images"),
            )
            under_ray.append(json.loads(stores.read_bytes(f"{folder}/training/{NETWORK_FILE}")))
        state = _clocked_state(job).to(job.device)
        if job.compiled:
            compile_network(state.model)
        batches = training_batches({"images": job.feed()}, lanes=range(LANES), seed=0, device=job.device)
        train(state, batches, job.schedule(steps * job.batch), job.config.optimizer, precision=job.config.precision)
        alone.append(json.loads(_clocked_file(state)))
        say(f"round {round_number + 1}: a step takes {under_ray[-1]:.4f} s under Ray Train, {alone[-1]:.4f} s without")
    ray_seconds, alone_seconds = statistics.median(under_ray), statistics.median(alone)
    return RayShare(steps, 1000 * ray_seconds, 1000 * alone_seconds, 1 - alone_seconds / ray_seconds)


class _Clock:
    """A forward pre-hook that records the start time of each step."""

    def __init__(self, device: str):
        self.times: list[float] = []
        self._device = device

    def __call__(self, *_: Any) -> None:
        wait_for_device(self._device)
        self.times.append(time.perf_counter())

    def step_seconds(self) -> float:
        """Return the median time between the starts of consecutive steps."""
        return statistics.median(np.diff(self.times[SKIPPED_STEPS:]).tolist())


def _clocked_state(job: GeneratorJob) -> TrainState:
    state = job.state()
    clock = _Clock(job.device)
    state.objective.clock = clock  # type: ignore[assignment]  # torch's stubs allow tensors and modules only
    state.objective.register_forward_pre_hook(clock)
    return state


def _clocked_file(state: TrainState) -> bytes:
    """Return the duration of a step as JSON, which takes the place of the trained network's file."""
    clock = state.objective.clock
    assert isinstance(clock, _Clock)
    return json.dumps(clock.step_seconds()).encode()


def _shards(job: GeneratorJob, folder: str) -> ImageSource:
    samples = [
        Sample(f"{number:05d}", {"png": encode_png(image), "cls": str(label).encode()})
        for number, (image, label) in enumerate(zip(job.images, job.labels.tolist(), strict=True))
    ]
    content = build_shard(samples)
    url = f"{folder}/00000.tar"
    stores.write_bytes(url, content)
    shard = SourceShard(ShardInfo(url, len(content), sha256(content), len(samples)), labels=tuple(job.labels.tolist()))
    return ImageSource((shard,), ImageForm(job.shape[1], job.shape[0]))
