"""The measurements of `dpt benchmark gpu`, at full size on a GPU and at a tiny one on a CPU, as a rehearsal."""

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from dpt_ray.benchmark.contest import Contestant, run_contest
from dpt_ray.benchmark.generator_figures import MIXED, OURS
from dpt_ray.benchmark.generator_job import GeneratorJob
from dpt_ray.benchmark.generator_speed import PEAKS, measure_sampling, step_flops
from dpt_ray.benchmark.labelling_speed import labelling_contestant
from dpt_ray.benchmark.plain_classifier import plain_loop
from dpt_ray.benchmark.training_speed import classifier_config, our_classifier, random_pixels
from dpt_ray.core.training.compute import Precision
from dpt_ray.errors import UserError


@dataclass(frozen=True)
class Sizes:
    """Sizes of all measurements.

    Attributes:
        classifier: a key of `training_speed.MODELS`.
        small, large, convolutional: keys of `generator_job.SIZES`.
        small_batch, large_batch, convolutional_batch, sampling_batch: images in a batch of each.
        sampling_steps: steps of guided sampling.
        labelled_images: images of each shard that is labelled.
        seconds: approximate length of a timed turn, s.
        compiled: compile networks.
    """

    classifier: str
    small: str
    large: str
    convolutional: str
    small_batch: int
    large_batch: int
    convolutional_batch: int
    sampling_batch: int
    sampling_steps: int
    labelled_images: int
    seconds: float
    compiled: bool


FULL = Sizes("wide_resnet", "uvit_17m", "uvit_l2", "ddpmpp", 256, 128, 512, 64, 10, 5_000, 2.0, True)
TINY = Sizes("tiny_cnn", "tiny", "tiny", "tiny_ddpmpp", 8, 8, 8, 2, 2, 64, 0.05, False)

PRECISION: Precision = "bfloat16"
ROUNDS = 3
PROFILED_STEPS = 5


def freematch(sizes: Sizes, device: str) -> tuple[float, float, float, float]:
    """Return images/s of our step, its ratio to the plain loop and to the sum of its kernels, and kernels in a step."""
    config = classifier_config(sizes.classifier)
    ours = our_classifier(config, device, PRECISION, sizes.compiled, graphed=device == "cuda")
    plain = plain_loop(config, random_pixels(), device, PRECISION, sizes.compiled, True)
    results = run_contest({"ours": ours, "plain": plain}, ROUNDS, sizes.seconds)
    rate = results["ours"].median
    images = config.labelled_batch + config.unlabelled_batch
    busy, kernels = kernel_seconds(ours, PROFILED_STEPS, device)
    return rate, rate / results["plain"].median, busy * rate / images, kernels


def kernel_seconds(contestant: Contestant, passes: int, device: str) -> tuple[float, float]:
    """Return the time that a pass keeps the device busy, s, and its kernels, by torch's profiler.

    On a CPU operations stand for kernels; nested ones count once.
    """
    on_gpu = device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    contestant(1)
    with profile(activities=activities) as profiled:
        contestant(passes)
    wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
    events = [event for event in profiled.events() or [] if event.device_type == wanted]
    microseconds = sum(event.self_device_time_total if on_gpu else event.self_cpu_time_total for event in events)
    return microseconds / 1e6 / passes, len(events) / passes


def labelling(sizes: Sizes, device: str) -> tuple[float]:
    """Return images/s of labelling shards in one process, as a run does it, with features in bfloat16."""
    with tempfile.TemporaryDirectory() as folder:
        config = classifier_config(sizes.classifier).model_copy(update={"precision": PRECISION})
        run = labelling_contestant(Path(folder), config, sizes.labelled_images, device)
        return (_rate(run, sizes.seconds),)


def small_uvit(sizes: Sizes, device: str) -> tuple[float]:
    """Return images/s of training the small U-ViT."""
    return (_training_rate(sizes.small, sizes.small_batch, sizes, device),)


def ddpmpp(sizes: Sizes, device: str) -> tuple[float]:
    """Return images/s of training the DDPM++."""
    return (_training_rate(sizes.convolutional, sizes.convolutional_batch, sizes, device),)


def large_uvit(sizes: Sizes, device: str) -> tuple[float]:
    """Return the share of the card's peak that training the large U-ViT reaches; on a CPU the share of 1 TFLOP/s."""
    rate = _training_rate(sizes.large, sizes.large_batch, sizes, device)
    peak = 1e12
    if device == "cuda":
        name = torch.cuda.get_device_name()
        known = next((value for part, value in PEAKS.items() if part in name), None)
        if known is None:
            raise UserError(f"the peak of {name} is not known, add it to generator_speed.PEAKS")
        peak = known
    # The arithmetic of an image does not depend on the batch, and counting that of a small one takes less memory.
    counted = GeneratorJob(sizes.large, 2, device, PRECISION, False)
    return (rate * step_flops(counted) / 2 / peak,)


def guided_sampling(sizes: Sizes, device: str) -> tuple[float]:
    """Return images/s of guided sampling as a multiple of the published form in bfloat16."""
    figures = measure_sampling(
        size=sizes.large,
        batch=sizes.sampling_batch,
        rounds=1,
        seconds=sizes.seconds,
        device=device,
        precision=PRECISION,
        compiled=sizes.compiled,
        guidance_scale=0.4,
        steps=sizes.sampling_steps,
        say=lambda text: None,
        contestants=(OURS, MIXED),
    )
    return (figures.ratios[MIXED],)


FIRST_STEP = """
import sys
from dpt_ray.distributed.code_folder import use_private_code_folder
use_private_code_folder()
from dpt_ray.benchmark.training_speed import classifier_config, our_classifier
ours = our_classifier(classifier_config(sys.argv[1]), sys.argv[2], "bfloat16", sys.argv[3] == "True")
ours(1)
"""


def first_step(sizes: Sizes, device: str) -> tuple[float]:
    """Return the seconds from a command to the end of its first step, in a process that finds compiled code."""
    command = [sys.executable, "-c", FIRST_STEP, sizes.classifier, device, str(sizes.compiled)]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip() or "the process failed").splitlines()[-1])
    return (time.monotonic() - began,)


def _training_rate(size: str, batch: int, sizes: Sizes, device: str) -> float:
    job = GeneratorJob(size, batch, device, PRECISION, sizes.compiled, graphed=device == "cuda")
    return _rate(job.ours(), sizes.seconds)


def _rate(contestant: Contestant, seconds: float) -> float:
    """Return the median images/s of a contestant over `ROUNDS` turns."""
    return statistics.median(run_contest({"": contestant}, ROUNDS, seconds)[""].rates)
