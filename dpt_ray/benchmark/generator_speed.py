"""Benchmarks of the generator: its training step, the overhead of Ray Train, and guided sampling."""

import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from dpt_ray.benchmark.contest import Result, run_contest
from dpt_ray.benchmark.generator_figures import MIXED, OURS, PUBLISHED, SamplingFigures, Setting, TrainingFigures
from dpt_ray.benchmark.generator_job import CLASSES, GeneratorJob, device_name
from dpt_ray.benchmark.published_uvit import published_denoiser
from dpt_ray.benchmark.ray_share import measure_ray_share
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.core.diffusion.process_settings import build_guidance, build_process, evaluations_per_image
from dpt_ray.core.diffusion.samplers import sample
from dpt_ray.core.pixels import to_uint8
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.training.compute import FLOAT32, Precision, compile_network, in_precision

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Part of a GPU's name -> its peak in dense bfloat16, FLOP/s (NVIDIA's data sheets)."""


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
    job = GeneratorJob(size, batch, device, precision, compiled)
    contestants = {OURS: job.ours(), PUBLISHED: job.published()}
    if precision != FLOAT32:  # separates the effect of the precision from that of the loop
        contestants[MIXED] = job.published(mixed=True)
    results = run_contest(contestants, rounds, seconds, say)
    flops = step_flops(job)
    peak = next((value for name, value in PEAKS.items() if name in device_name(device)), None)
    return TrainingFigures(
        **vars(_setting(size, batch, device, precision, compiled, rounds, seconds)),
        images_per_second={name: result.rates for name, result in results.items()},
        median={name: result.median for name, result in results.items()},
        ratios=_ratios(results),
        parameters=sum(p.numel() for p in job.network().parameters()),
        flops_per_image=flops / batch,
        flops_per_second={name: result.median * flops / batch for name, result in results.items()},
        peak_flops_per_second=peak,
        ray=measure_ray_share(job, ray_steps, say) if ray_steps else None,
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
    contestants: Collection[str] = (OURS, PUBLISHED, MIXED),
) -> SamplingFigures:
    """Time guided sampling with DPM-Solver++(2M), with our denoiser and with the published one.

    `batch` images are sampled at once, in `steps` steps. Only the named `contestants` take part. The other arguments
    are those of `measure_generator`.
    """
    job = GeneratorJob(size, batch, device, precision, compiled)
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

    ours, plain = job.uvit().eval(), job.uvit().eval()
    if compiled:
        compile_network(ours)
    called = in_precision(ours, precision, torch.device(device))
    guided = build_guidance(config, process.denoiser(called), null_label=CLASSES)
    known = {OURS: drawing(guided), PUBLISHED: drawing(published_denoiser(plain, guidance_scale))}
    if precision != FLOAT32:
        known[MIXED] = drawing(published_denoiser(plain, guidance_scale, mixed=True))
    results = run_contest({name: known[name] for name in known if name in contestants}, rounds, seconds, say)
    return SamplingFigures(
        **vars(_setting(size, batch, device, precision, compiled, rounds, seconds)),
        guidance_scale=guidance_scale,
        evaluations_per_image=evaluations_per_image(config, process),
        images_per_second={name: result.rates for name, result in results.items()},
        median={name: result.median for name, result in results.items()},
        ratios=_ratios(results),
    )


def step_flops(job: GeneratorJob) -> float:
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


def _setting(
    size: str, batch: int, device: str, precision: Precision, compiled: bool, rounds: int, seconds: float
) -> Setting:
    return Setting(
        size=size,
        batch=batch,
        device=device_name(device),
        threads=torch.get_num_threads(),
        machine_cpus=os.cpu_count(),
        precision=precision,
        compiled=compiled,
        rounds=rounds,
        seconds=seconds,
    )


def _ratios(results: Mapping[str, Result]) -> dict[str, float]:
    return {name: results[OURS].median / result.median for name, result in results.items() if name != OURS}
