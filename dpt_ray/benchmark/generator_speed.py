"""Benchmarks of the generator: its training step, the overhead of Ray Train, and guided sampling."""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from dpt_ray.benchmark.contest import Result, run_contest
from dpt_ray.benchmark.generator_figures import RayShare, SamplingFigures, Setting, TrainingFigures
from dpt_ray.benchmark.published_uvit import published_denoiser, published_steps
from dpt_ray.config.schema import (
    ClusterConfig,
    DataConfig,
    GeneratorConfig,
    GeneratorModelConfig,
    OptimizerConfig,
    SamplingConfig,
)
from dpt_ray.core.diffusion.process_settings import build_guidance, build_process, evaluations_per_image
from dpt_ray.core.diffusion.samplers import sample
from dpt_ray.core.models.network_settings import build_generator
from dpt_ray.core.models.uvit import UViT
from dpt_ray.core.pixels import to_uint8
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.training.compute import FLOAT32, Precision, compile_network, in_precision
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.core.training.loop import Schedule, train
from dpt_ray.core.training.state import TrainState
from dpt_ray.data.images.decoding import ImageForm, encode_png
from dpt_ray.data.loading.batches import Columns
from dpt_ray.data.loading.feed import Feed, training_batches
from dpt_ray.data.loading.order import ImageOrder, Segment
from dpt_ray.data.loading.source import ImageSource, SourceShard
from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.samples import Sample, build_shard, sha256
from dpt_ray.data.storage import stores
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.tables import markdown_table

OURS, PUBLISHED, MIXED = "ours", "published form, eager float32", "published form, eager bfloat16 autocast"
LANES, IMAGES, CLASSES = 8, 512, 10
DECAY, LEARNING_RATE = 0.9999, 2e-4
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Part of a GPU's name -> its peak in dense bfloat16, FLOP/s (NVIDIA's data sheets)."""


@dataclass(frozen=True)
class Size:
    """A U-ViT and its images: side in pixels, and colour channels."""

    model: GeneratorModelConfig
    image_size: int
    channels: int


SIZES = {
    "small": Size(GeneratorModelConfig(patch_size=4, dim=256, depth=4, heads=4), 32, 3),
    "uvit_l2": Size(GeneratorModelConfig(patch_size=2, dim=1024, depth=20, heads=16), 32, 3),
    "uvit_h2": Size(GeneratorModelConfig(patch_size=2, dim=1152, depth=28, heads=16, final_conv=False), 32, 3),
}
"""`uvit_l2` and `uvit_h2` are the paper's networks with the size of its latents, 32x32, but with three channels."""


def measure_generator(
    *,
    size: str,
    batch: int,
    rounds: int,
    seconds: float,
    device: str,
    precision: Precision,
    compiled: bool,
    ray_steps: int,
    say: Callable[[str], None],
) -> TrainingFigures:
    """Time training steps of our loop and of the published one.

    Args:
        size: a key of `SIZES`.
        batch: images in a step.
        rounds: timed rounds of each contestant.
        seconds: approximate length of a turn.
        device: "cpu" or "cuda".
        precision: precision of our loop.
        compiled: compile our network.
        ray_steps: steps with which the overhead of Ray Train is measured; 0 to skip it.
        say: called with each result, as a line of text, when it is known.
    """
    job = _Training(size, batch, device, precision, compiled)
    contestants = {OURS: job.ours(), PUBLISHED: job.published()}
    if precision != FLOAT32:  # separates the effect of the precision from that of the loop
        contestants[MIXED] = job.published(mixed=True)
    results = run_contest(contestants, rounds, seconds, say)
    flops = _step_flops(job)
    peak = next((value for name, value in PEAKS.items() if name in _device_name(device)), None)
    return TrainingFigures(
        **vars(_setting(size, batch, device, precision, compiled, rounds, seconds)),
        images_per_second={name: result.rates for name, result in results.items()},
        median={name: result.median for name, result in results.items()},
        ratios=_ratios(results),
        parameters=sum(p.numel() for p in job.network().parameters()),
        flops_per_image=flops / batch,
        flops_per_second={name: result.median * flops / batch for name, result in results.items()},
        peak_flops_per_second=peak,
        ray=_measure_ray_share(job, ray_steps, say) if ray_steps else None,
    )


def measure_sampling(
    *,
    size: str,
    batch: int,
    rounds: int,
    seconds: float,
    device: str,
    precision: Precision,
    compiled: bool,
    guidance_scale: float,
    steps: int,
    say: Callable[[str], None],
) -> SamplingFigures:
    """Time guided sampling with DPM-Solver++(2M), with our denoiser and with the published one.

    `batch` images are sampled at once, in `steps` steps. The other arguments are those of
    `measure_generator`.
    """
    job = _Training(size, batch, device, precision, compiled)
    config = SamplingConfig(guidance_scale=guidance_scale, steps=steps)
    process = build_process(job.config)
    labels = torch.arange(batch, device=device) % CLASSES

    def drawing(denoiser: Any) -> Callable[[int], int]:
        def run(passes: int) -> int:
            for number in range(passes):
                random = RowRandom([1000 * number + row for row in range(batch)], device=device)
                noise = random.normal(*job.shape)
                with torch.inference_mode():
                    images = sample(
                        config.sampler, denoiser, noise, labels, steps, process.sigma_min, process.sigma_max, None
                    )
                to_uint8(images).cpu()
            return passes * batch

        return run

    ours, plain = job.network().eval(), job.network().eval()
    if compiled:
        compile_network(ours)
    called = in_precision(ours, precision, torch.device(device))
    guided = build_guidance(config, process.denoiser(called), null_label=CLASSES)
    contestants = {OURS: drawing(guided), PUBLISHED: drawing(published_denoiser(plain, guidance_scale))}
    if precision != FLOAT32:
        contestants[MIXED] = drawing(published_denoiser(plain, guidance_scale, mixed=True))
    results = run_contest(contestants, rounds, seconds, say)
    return SamplingFigures(
        **vars(_setting(size, batch, device, precision, compiled, rounds, seconds)),
        guidance_scale=guidance_scale,
        evaluations_per_image=evaluations_per_image(config, process),
        images_per_second={name: result.rates for name, result in results.items()},
        median={name: result.median for name, result in results.items()},
        ratios=_ratios(results),
    )


def generator_table(figures: TrainingFigures | SamplingFigures) -> str:
    """Return the results of `measure_generator` or `measure_sampling` as Markdown."""
    parts = [
        f"{figures.size}, {figures.device}, {figures.threads} threads, {figures.precision}, compiled "
        f"{figures.compiled}, batch {figures.batch}; {figures.rounds} rounds in turns of about {figures.seconds:g} s."
    ]
    rates = figures.images_per_second
    rows = [
        (name, f"{median:,.2f}", f"{min(rates[name]):,.2f} to {max(rates[name]):,.2f}")
        for name, median in figures.median.items()
    ]
    parts.append(markdown_table([("contestant", "images/s, median", "slowest and fastest round"), *rows]))
    parts += [f"Ours against {name}: {ratio:.3f}." for name, ratio in figures.ratios.items()]
    if isinstance(figures, SamplingFigures):
        parts.append(
            f"{figures.evaluations_per_image} evaluations an image, guidance scale {figures.guidance_scale:g}."
        )
        return "\n\n".join(parts)
    speed, peak = figures.flops_per_second[OURS], figures.peak_flops_per_second
    used = f", {speed / peak:.1%} of the GPU's peak" if peak else ""
    parts.append(
        f"{figures.parameters:,} parameters, {figures.flops_per_image / 1e9:,.2f} GFLOP an image and step; "
        f"ours computes {speed / 1e12:,.3f} TFLOP/s{used}."
    )
    if figures.ray is not None:
        ray = figures.ray
        parts.append(
            f"Under Ray Train a step takes {ray.ray_ms:,.1f} ms, without it {ray.alone_ms:,.1f} ms (medians of "
            f"{ray.steps} steps): Ray's share is {ray.share:.1%}."
        )
    return "\n\n".join(parts)


class _Training:
    """The training that all contestants run: the same network, settings and images of random pixels."""

    def __init__(self, size: str, batch: int, device: str, precision: Precision, compiled: bool):
        chosen = SIZES[size]
        self.batch, self.device, self.compiled = batch, device, compiled
        self.config = GeneratorConfig(
            model=chosen.model,
            batch=batch,
            flip=False,
            ema_decay=DECAY,
            precision=precision,
            optimizer=OptimizerConfig(learning_rate=LEARNING_RATE, decay_all_parameters=True, weight_decay=0.01),
        )
        self._size, self._channels = chosen.image_size, chosen.channels
        self.shape = (chosen.channels, chosen.image_size, chosen.image_size)
        self.images = np.random.default_rng(0).integers(0, 256, (IMAGES, *self.shape), dtype=np.uint8)
        self.labels = np.arange(IMAGES) % CLASSES

    def network(self) -> UViT:
        """Return the network with its initial weights."""
        torch.manual_seed(0)
        network = build_generator(self.config, image_size=self._size, channels=self._channels, num_classes=CLASSES)
        assert isinstance(network, UViT)
        return network.to(self.device)

    def state(self) -> TrainState:
        """Return the state of our training before its first step."""
        return generator_training(
            self.config, image_size=self._size, channels=self._channels, num_classes=CLASSES, seed=0
        )

    def ours(self) -> Callable[[int], int]:
        """Return our loop as a contestant; a pass is a training step."""
        state = self.state().to(self.device)
        if self.compiled:
            compile_network(state.model)
        batches = training_batches({"images": self.feed()}, lanes=range(LANES), seed=0, device=self.device)

        def run(steps: int) -> int:
            schedule = self.schedule(state.images_seen + steps * self.batch)
            train(state, batches, schedule, self.config.optimizer, precision=self.config.precision)
            _wait(self.device)
            return steps * self.batch

        return run

    def published(self, mixed: bool = False) -> Callable[[int], int]:
        """Return the published loop as a contestant, in float32 or under bfloat16 autocast."""
        images, labels = (torch.from_numpy(values).to(self.device) for values in (self.images, self.labels))
        step = published_steps(
            self.network(),
            images,
            labels,
            batch=self.batch,
            learning_rate=LEARNING_RATE,
            label_dropout=self.config.label_dropout,
            decay=DECAY,
            mixed=mixed,
        )

        def run(steps: int) -> int:
            for _ in range(steps):
                step()
            _wait(self.device)
            return steps * self.batch

        return run

    def feed(self) -> Feed:
        """Return a feed of the images in memory."""

        def read(segment: Segment) -> list[Columns]:
            rows = slice(segment.start, segment.stop)
            return [{"image": self.images[rows], "label": self.labels[rows]}]

        return Feed(ImageOrder([IMAGES], seed=0, lanes=LANES, shuffle_window=IMAGES), read, self.batch)

    def schedule(self, end: int) -> Schedule:
        """Return a schedule that ends at `end` images, with a row of the loss curve every 50 steps."""
        return Schedule(end, self.batch, 50 * self.batch, 1e9)


def _step_flops(job: _Training) -> float:
    """Return the floating-point operations of a step's forward and backward pass, by torch's FLOP counter."""
    network = job.network()
    x = torch.zeros(job.batch, *job.shape, device=job.device)
    time_, label = (
        torch.zeros(job.batch, device=job.device),
        torch.zeros(job.batch, dtype=torch.int64, device=job.device),
    )
    with FlopCounterMode(display=False) as counter:
        network(x, time_, label).sum().backward()
    return counter.get_total_flops()


SKIPPED_STEPS = 3
"""Number of first steps that are not timed, because they allocate memory and compile."""


class _Clock:
    """A forward pre-hook that records the start time of each step."""

    def __init__(self, device: str):
        self.times: list[float] = []
        self._device = device

    def __call__(self, *_: Any) -> None:
        _wait(self._device)
        self.times.append(time.perf_counter())

    def step_seconds(self) -> float:
        """Return the median time between the starts of consecutive steps."""
        return statistics.median(np.diff(self.times[SKIPPED_STEPS:]).tolist())


def _clocked_state(job: _Training) -> TrainState:
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


def _measure_ray_share(job: _Training, steps: int, say: Callable[[str], None]) -> RayShare:
    """Time the same steps under Ray Train, with kept images, and without it; two rounds in turns."""
    from dpt_ray.distributed.cluster import Resources, connect
    from dpt_ray.distributed.progress import ProgressLine
    from dpt_ray.distributed.ray_training import run_training
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


def _shards(job: _Training, folder: str) -> ImageSource:
    samples = [
        Sample(f"{number:05d}", {"png": encode_png(image), "cls": str(label).encode()})
        for number, (image, label) in enumerate(zip(job.images, job.labels.tolist(), strict=True))
    ]
    content = build_shard(samples)
    url = f"{folder}/00000.tar"
    stores.write_bytes(url, content)
    shard = SourceShard(ShardInfo(url, len(content), sha256(content), len(samples)), labels=tuple(job.labels.tolist()))
    return ImageSource((shard,), ImageForm(job.shape[1], job.shape[0]))


def _setting(
    size: str, batch: int, device: str, precision: Precision, compiled: bool, rounds: int, seconds: float
) -> Setting:
    return Setting(
        size=size,
        batch=batch,
        device=_device_name(device),
        threads=torch.get_num_threads(),
        machine_cpus=os.cpu_count(),
        precision=precision,
        compiled=compiled,
        rounds=rounds,
        seconds=seconds,
    )


def _ratios(results: Mapping[str, Result]) -> dict[str, float]:
    return {name: results[OURS].median / result.median for name, result in results.items() if name != OURS}


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
