"""Grids of noise levels for samplers; all decrease from sigma_max."""

import math
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor


class TimeSchedule(Protocol):
    """A function from times in [0, 1] to noise levels, and its inverse; see `processes.TimedProcess`."""

    def sigma_of_time(self, time: Tensor) -> Tensor: ...

    def time_of_sigma(self, sigma: Tensor) -> Tensor: ...


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """Return noise levels evenly spaced in sigma^(1 / rho), then 0 (Karras et al. 2022, eq. 5): steps + 1 values."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return [*((high + ramp * (low - high)) ** rho).tolist(), 0.0]


def log_snr_sigmas(steps: int, sigma_min: float, sigma_max: float) -> list[float]:
    """Return noise levels evenly spaced in lambda = -log(sigma), then 0 (Lu et al. 2022): steps + 1 values."""
    lambdas = torch.linspace(-math.log(sigma_max), -math.log(sigma_min), steps, dtype=torch.float64)
    return [*torch.exp(-lambdas).tolist(), 0.0]


def singlestep_orders(steps: int) -> list[int]:
    """Divide `steps` evaluations into solver steps of order 3, then lower orders ("DPM-Solver-fast", Lu et al. 2022).

    A solver step of order k takes k evaluations. 50 evaluations are 16 steps of order 3 and one of order 2.
    """
    thirds, rest = divmod(steps, 3)
    if rest:
        return [3] * thirds + [rest]
    return [3] * (thirds - 1) + [2, 1]


def singlestep_log_snr_sigmas(steps: int, sigma_min: float, sigma_max: float) -> list[float]:
    """Return the noise levels that DPM-Solver-fast evaluates, then sigma_min: steps + 1 values.

    The solver steps (`singlestep_orders`) have equal lengths in lambda = -log(sigma). The inner levels divide a step
    evenly: at 1/3 and 2/3 for order 3, at 1/2 for order 2.
    """
    orders = singlestep_orders(steps)
    bounds = torch.linspace(-math.log(sigma_max), -math.log(sigma_min), len(orders) + 1, dtype=torch.float64)
    sigmas = [sigma_max]
    for order, (start, end) in zip(orders, pairwise(bounds.tolist()), strict=True):
        sigmas += [math.exp(-(start + (end - start) * inner / order)) for inner in range(1, order + 1)]
    return sigmas


def uniform_time_sigmas(steps: int, sigma_min: float, sigma_max: float, schedule: TimeSchedule) -> list[float]:
    """Return the noise levels at evenly spaced times, from sigma_max to sigma_min: steps + 1 values."""
    last, first = schedule.time_of_sigma(torch.tensor([sigma_min, sigma_max], dtype=torch.float64)).tolist()
    inner = schedule.sigma_of_time(torch.linspace(first, last, steps + 1, dtype=torch.float64))[1:-1]
    return [sigma_max, *inner.tolist(), sigma_min]
