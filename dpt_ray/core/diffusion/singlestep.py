"""The single-step DPM-Solvers of order 3 ("fast"), with which the paper samples.

A step of order k evaluates the model at its start and at k - 1 inner levels. It uses no values of earlier steps.
`grids.singlestep_orders` assigns evaluations to steps.

As published, both solvers work on the variance-preserving state alpha * clean + sigma' * noise. They start from a state
that is noise of variance 1. They return the state at the last level of the grid, *not* denoised.

Both are exponential integrators in lambda = log(alpha / sigma') = -log(sigma), exact for a model value that is constant
in lambda. The model value is the predicted noise in DPM-Solver, and the predicted clean image in DPM-Solver++. The
updates below are those of the papers, divided by alpha.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dpt_ray.core.diffusion.denoiser import Denoiser, denoise_at
from dpt_ray.core.diffusion.grids import singlestep_orders


@dataclass(frozen=True)
class _Form:
    """The model value that a solver integrates, and the weights of its update.

    Attributes:
        value: (x, clean, sigma) -> the model value v.
        weights: (sigma, next_sigma) -> (a, b, c) in x' = a x + b v + c dv. The update is exact for a value that is
            linear in lambda and changes by dv over the interval.
    """

    value: Callable[[Tensor, Tensor, float], Tensor]
    weights: Callable[[float, float], tuple[float, float, float]]


def _noise_weights(sigma: float, next_sigma: float) -> tuple[float, float, float]:
    length = math.log(sigma / next_sigma)
    growth = math.expm1(length)
    return 1.0, -next_sigma * growth, -next_sigma * (growth / length - 1)


def _clean_weights(sigma: float, next_sigma: float) -> tuple[float, float, float]:
    length = math.log(sigma / next_sigma)
    decay = math.expm1(-length)
    return next_sigma / sigma, -decay, decay / length + 1


_NOISE = _Form(lambda x, clean, sigma: (x - clean) / sigma, _noise_weights)
_CLEAN = _Form(lambda x, clean, sigma: clean, _clean_weights)


@torch.no_grad()
def sample_dpm_solver_fast(denoiser: Denoiser, noise: Tensor, labels: Tensor, sigmas: list[float]) -> Tensor:
    """DPM-Solver-fast (Lu et al. 2022, "DPM-Solver: A Fast ODE Solver ...", algorithms 1 and 2, section 3.4).

    Third order; one evaluation for each interval of the grid.
    """
    return _solve(_NOISE, denoiser, noise, labels, sigmas)


@torch.no_grad()
def sample_dpm_solver_pp_fast(denoiser: Denoiser, noise: Tensor, labels: Tensor, sigmas: list[float]) -> Tensor:
    """The single-step DPM-Solver++ (Lu et al. 2022, "DPM-Solver++: Fast Solver for Guided Sampling ...").

    Third order; one evaluation for each interval of the grid.
    """
    return _solve(_CLEAN, denoiser, noise, labels, sigmas)


def _solve(form: _Form, denoiser: Denoiser, noise: Tensor, labels: Tensor, sigmas: list[float]) -> Tensor:
    def value(x: Tensor, sigma: float) -> Tensor:
        return form.value(x, denoise_at(denoiser, x, sigma, labels), sigma)

    x = math.hypot(1, sigmas[0]) * noise.double()  # divided by alpha
    start = 0
    for order in singlestep_orders(len(sigmas) - 1):
        x = _step(form, value, x, sigmas[start : start + order + 1])
        start += order
    return (x / math.hypot(1, sigmas[-1])).to(noise.dtype)


def _step(form: _Form, value: Callable[[Tensor, float], Tensor], x: Tensor, levels: list[float]) -> Tensor:
    """Take one solver step from levels[0] to levels[-1]; it evaluates the model at all levels but the last."""
    start, *targets = levels
    order = len(targets)
    at_start = value(x, start)
    slope: Tensor | None = None  # derivative of the value with respect to lambda
    for target in targets:
        keep, constant, linear = form.weights(start, target)
        reached = keep * x + constant * at_start
        if slope is not None:
            # Order 2 uses the midpoint rule instead of the exact weight of a linear value, as published.
            weight = constant / 2 if order == 2 else linear
            reached = reached + weight * math.log(start / target) * slope
        if target != targets[-1]:
            slope = (value(reached, target) - at_start) / math.log(start / target)
    return reached
