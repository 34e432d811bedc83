"""Samplers: from noise and labels to images, by solving the probability-flow ODE.

In the sigma parameterisation the ODE is dx/dsigma = (x - denoiser(x, sigma)) / sigma (Karras et al. 2022, eq. 3). A
sampler is a function (denoiser, noise, labels, sigmas) -> images, where `sigmas` is a decreasing grid of noise levels
(`grids`). It draws no random numbers, so an image depends on its own noise and label only, not on the rest of the
batch. The state is float64, as in EDM, because it accumulates many small steps at very different scales.

The last interval of a grid goes from sigma_min to 0 and returns the denoised image. The solvers in `singlestep` are the
exception: they end at sigma_min.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from dpt_ray import plugins
from dpt_ray.core.diffusion.denoiser import Denoiser, denoise_at
from dpt_ray.core.diffusion.grids import (
    TimeSchedule,
    karras_sigmas,
    log_snr_sigmas,
    singlestep_log_snr_sigmas,
    uniform_time_sigmas,
)
from dpt_ray.core.diffusion.singlestep import sample_dpm_solver_fast, sample_dpm_solver_pp_fast


@torch.no_grad()
def sample_euler(denoiser: Denoiser, noise: Tensor, labels: Tensor, sigmas: list[float]) -> Tensor:
    """Euler's method (Karras et al. 2022, algorithm 1 without its second-order correction).

    First order; one evaluation for each interval. It equals deterministic DDIM (Song et al. 2021, eq. 13-14).
    """
    x = sigmas[0] * noise.double()
    for sigma, next_sigma in pairwise(sigmas):
        slope = (x - denoise_at(denoiser, x, sigma, labels)) / sigma
        x = x + (next_sigma - sigma) * slope
    return x.to(noise.dtype)


@torch.no_grad()
def sample_heun(denoiser: Denoiser, noise: Tensor, labels: Tensor, sigmas: list[float]) -> Tensor:
    """Heun's method (Karras et al. 2022, "Elucidating the Design Space ...", algorithm 1).

    Second order; two evaluations for each interval. The last has one, because the slope is not defined at sigma 0.
    """
    x = sigmas[0] * noise.double()
    for sigma, next_sigma in pairwise(sigmas):
        slope = (x - denoise_at(denoiser, x, sigma, labels)) / sigma
        end = x + (next_sigma - sigma) * slope
        if next_sigma > 0:
            end_slope = (end - denoise_at(denoiser, end, next_sigma, labels)) / next_sigma
            end = x + (next_sigma - sigma) * (slope + end_slope) / 2
        x = end
    return x.to(noise.dtype)


@torch.no_grad()
def sample_dpm_solver_pp_2m(denoiser: Denoiser, noise: Tensor, labels: Tensor, sigmas: list[float]) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, "DPM-Solver++: Fast Solver for Guided Sampling ...", algorithm 2).

    Second order, multistep; one evaluation for each interval. The first interval has no previous estimate, and the last
    has infinite length in lambda, so both are first order. The update is the paper's, divided by alpha at the end of
    the interval.
    """
    x = sigmas[0] * noise.double()
    previous: Tensor | None = None
    previous_length = 0.0
    for sigma, next_sigma in pairwise(sigmas):
        clean = denoise_at(denoiser, x, sigma, labels)
        if next_sigma == 0:
            x = clean
            break
        length = math.log(sigma / next_sigma)  # in lambda = -log(sigma)
        estimate = clean
        if previous is not None:
            estimate = clean + length / (2 * previous_length) * (clean - previous)
        x = next_sigma / sigma * x - math.expm1(-length) * estimate
        previous, previous_length = clean, length
    return x.to(noise.dtype)


@dataclass(frozen=True)
class Sampler:
    """A sampler and the grid of noise levels that it uses.

    Attributes:
        solve: (denoiser, noise, labels, sigmas) -> images.
        sigmas: (steps, sigma_min, sigma_max) -> the grid, steps + 1 values; None for a grid that is uniform in the time
            of the process.
        evaluations: evaluations at each inner level of the grid; the first level has one, the last none.
    """

    solve: Callable[[Denoiser, Tensor, Tensor, list[float]], Tensor]
    sigmas: Callable[[int, float, float], list[float]] | None
    evaluations: int = 1

    def evaluated(self, grid: list[float]) -> list[float]:
        """Return the noise level of each evaluation on a grid, in the order of evaluation."""
        return grid[:1] + [sigma for sigma in grid[1:-1] for _ in range(self.evaluations)]


SAMPLERS = {
    "euler": Sampler(sample_euler, karras_sigmas),
    "heun": Sampler(sample_heun, karras_sigmas, evaluations=2),
    "dpm_solver_pp_2m": Sampler(sample_dpm_solver_pp_2m, log_snr_sigmas),
    "dpm_solver_pp_2m_karras": Sampler(sample_dpm_solver_pp_2m, karras_sigmas),
    "dpm_solver_fast": Sampler(sample_dpm_solver_fast, singlestep_log_snr_sigmas),
    "dpm_solver_pp_fast": Sampler(sample_dpm_solver_pp_fast, None),
}


def num_evaluations(name: str, steps: int) -> int:
    """Return the number of denoiser evaluations of sampler `name`; a guided evaluation counts once."""
    return len(_sampler(name, steps).evaluated([1.0] * (steps + 1)))


def sampling_grid(
    name: str, steps: int, sigma_min: float, sigma_max: float, schedule: TimeSchedule | None = None
) -> list[float]:
    """Return the grid of noise levels of sampler `name`, steps + 1 values.

    Arguments and errors are those of `sample`.
    """
    sampler = _sampler(name, steps)
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"need 0 < sigma_min < sigma_max: got sigma_min={sigma_min}, sigma_max={sigma_max}")
    if sampler.sigmas is not None:
        return sampler.sigmas(steps, sigma_min, sigma_max)
    if schedule is None:
        raise ValueError(f"{name} steps uniformly in time, but the process has noise levels only")
    return uniform_time_sigmas(steps, sigma_min, sigma_max, schedule)


def sample(
    name: str,
    denoiser: Denoiser,
    noise: Tensor,
    labels: Tensor,
    steps: int,
    sigma_min: float,
    sigma_max: float,
    schedule: TimeSchedule | None = None,
) -> Tensor:
    """Generate an image for each noise and label.

    Args:
        name: a key of `SAMPLERS`, or the name of a plug-in.
        denoiser: the model, guided or not.
        noise: (B, C, H, W) standard normal float32; image i is a function of noise i and label i.
        labels: (B,) int64 class ids, or the network's null label.
        steps: intervals of the grid, >= 1; see `num_evaluations` for their cost.
        sigma_min: last noise level above 0.
        sigma_max: first noise level.
        schedule: maps times to noise levels; for a sampler whose grid is uniform in time.

    Returns:
        (B, C, H, W) of the dtype of `noise`, nominally in [-1, 1].

    Raises:
        ValueError: unknown sampler, fewer than one step, not 0 < sigma_min < sigma_max, or no `schedule`
            where one is needed.
    """
    grid = sampling_grid(name, steps, sigma_min, sigma_max, schedule)
    return find_sampler(name).solve(denoiser, noise, labels, grid)


def find_sampler(name: str) -> Sampler:
    """Return a built-in sampler or a plug-in.

    Raises:
        ValueError: there is no sampler of this name.
        UserError: the plug-in cannot be used.
    """
    if name in SAMPLERS:
        return SAMPLERS[name]
    if plugins.find("samplers", name) is None:
        raise ValueError(f"unknown sampler {name!r}: choose one of {', '.join(SAMPLERS)}")
    return plugins.load_object("samplers", name, Sampler)


def _sampler(name: str, steps: int) -> Sampler:
    sampler = find_sampler(name)
    if steps < 1:
        raise ValueError(f"a sampler needs at least 1 step: got {steps}")
    return sampler
