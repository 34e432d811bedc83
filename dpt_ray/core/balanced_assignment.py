"""Balanced assignment of classes by entropic optimal transport (Cuturi 2013; for labels: Asano et al. 2020).

Shapes: N images, C classes.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpt_ray.core.lbfgs import Point, lbfgs

SMALLEST = 6e-8
"""Smallest positive half-precision number; smaller probabilities are raised to it."""
TOLERANCE = 1e-3


@dataclass(frozen=True)
class ClassScales:
    """The scales of the classes in the balanced plan.

    Attributes:
        log: log v, float64 (C,).
        error: largest absolute error of the logarithm of a column sum.
        converged: whether `error` is within the tolerance.
    """

    log: Tensor
    error: float
    converged: bool


def class_log_scales(
    probabilities: Tensor, shares: Tensor, *, sharpness: float, tolerance: float = TOLERANCE, max_iterations: int = 200
) -> ClassScales:
    """Return the scales v of the balanced transport plan p_ic^sharpness u_i v_c.

    Each row of the plan sums to 1 / N, and the column sums follow `shares`. The scales also hold for other images of
    the same distribution, so a sample of the data set is enough.

    Log v maximises a concave function of C variables. For probabilities near 0 and 1 Sinkhorn's iteration takes
    thousands of steps. So each iteration also tries Newton's step with a line search, and keeps the better of the two.

    Args:
        probabilities: predicted class probabilities, (N, C).
        shares: wanted share of each class, (C,), > 0; they are scaled to sum 1.
        sharpness: the inverse of the entropic regularisation.
        tolerance: largest error of a column at convergence; see `ClassScales.error`.
        max_iterations: largest number of iterations.
    """
    dual = _Dual(sharpness * probabilities.double().clamp_min(SMALLEST).log(), shares.double() / shares.double().sum())
    scales = torch.zeros_like(dual.shares)
    error = math.inf
    for iteration in range(max_iterations + 1):
        columns = dual.log_columns(scales)
        error = float((columns - dual.shares.log()).abs().max())
        if error <= tolerance or iteration == max_iterations:
            break
        sinkhorn, newton = scales + dual.shares.log() - columns, dual.newton(scales)
        scales = newton if newton is not None and dual(newton) >= dual(sinkhorn) else sinkhorn
    return ClassScales(scales, error, error <= tolerance)


@dataclass(frozen=True)
class DualSums:
    """Sums over images from which the dual and its gradient follow; those of two sets of images are added.

    Attributes:
        images: number of images.
        rows: sum of the logarithms of the rows' sums before they are scaled to 1.
        log_columns: logarithms of the sums of the columns of rows that are scaled to 1, float64 (C,).
    """

    images: int
    rows: float
    log_columns: Tensor

    def __add__(self, other: "DualSums") -> "DualSums":
        columns = torch.logaddexp(self.log_columns, other.log_columns)
        return DualSums(self.images + other.images, self.rows + other.rows, columns)


def dual_sums(probabilities: Tensor, log_scales: Tensor, *, sharpness: float) -> DualSums:
    """Return the sums over some images at given scales; see `class_log_scales` for the arguments.

    Memory is bounded by `_CHUNK_NUMBERS` beside the probabilities, which may be float16.
    """
    total = DualSums(0, 0.0, torch.full_like(log_scales, -math.inf))
    for part in probabilities.split(max(1, _CHUNK_NUMBERS // len(log_scales))):
        scores = sharpness * part.double().clamp_min(SMALLEST).log() + log_scales
        rows = scores.logsumexp(dim=1, keepdim=True)
        total += DualSums(len(part), float(rows.sum()), (scores - rows).logsumexp(dim=0))
    return total


_CHUNK_NUMBERS = 2**22
_HISTORY, _SINKHORN_STEPS = 10, 3


def streamed_log_scales(
    sums: Callable[[Tensor], DualSums], shares: Tensor, *, tolerance: float = TOLERANCE, max_passes: int = 200
) -> ClassScales:
    """Return the scales of `class_log_scales` for images that are gone through once a pass; memory is O(C).

    Newton's matrix would have C^2 numbers. Instead Sinkhorn's first steps are followed by L-BFGS on the dual.

    Args:
        sums: returns `dual_sums` of all images at given scales.
        shares: wanted share of each class, (C,), > 0; they are scaled to sum 1.
        tolerance: largest error of a column at convergence; see `ClassScales.error`.
        max_passes: passes after which the best scales so far are returned.
    """
    shares = shares.double() / shares.double().sum()
    best = ClassScales(torch.zeros_like(shares), math.inf, False)
    passes = 0

    def evaluate(scales: Tensor) -> tuple[float, Tensor]:
        nonlocal best, passes
        if passes >= max_passes or best.converged:
            raise _EndedError
        passes += 1
        found = sums(scales)
        columns = found.log_columns - math.log(found.images)
        error = float((columns - shares.log()).abs().max())
        if error < best.error:
            best = ClassScales(scales, error, error <= tolerance)
        return found.rows / found.images - float(shares @ scales), columns.exp() - shares

    with suppress(_EndedError):
        scales = best.log
        for _ in range(_SINKHORN_STEPS):
            _, gradient = evaluate(scales)
            scales = scales + shares.log() - (gradient + shares).log()
        start = Point(scales, *evaluate(scales))
        # The curvature of a class is about its share, so this is the length of Newton's step.
        for _ in lbfgs(evaluate, start, first_step=1 / float(shares.mean()), history=_HISTORY):
            pass
    return best


class _EndedError(Exception):
    """No further pass is needed, or allowed."""


class _Dual:
    """The dual objective as a function of log v; its gradient is the wanted minus the present column sums."""

    def __init__(self, costs: Tensor, shares: Tensor):
        self._costs, self.shares = costs, shares

    def __call__(self, scales: Tensor) -> float:
        return float(self.shares @ scales - (self._costs + scales).logsumexp(dim=1).mean())

    def log_columns(self, scales: Tensor) -> Tensor:
        """Return the logarithms of the column sums, (C,), of the plan whose rows sum to 1 / N."""
        return (self._costs + scales).log_softmax(dim=1).logsumexp(dim=0) - math.log(len(self._costs))

    def newton(self, scales: Tensor) -> Tensor | None:
        """Return the scales after a Newton step with a backtracking line search; None if it fails."""
        plan = (self._costs + scales).softmax(dim=1)
        columns = plan.mean(dim=0)
        curvature = columns.diag() - plan.T @ plan / len(plan)
        # The curvature is singular: a constant added to all scales, or to a group of classes that share no image with
        # others, does not change the plan.
        flat = columns.mean() * (1 / len(columns) + 1e-9 * torch.eye(len(columns), dtype=plan.dtype))
        step, failed = torch.linalg.solve_ex(curvature + flat, self.shares - columns)
        if failed or not step.isfinite().all():
            return None
        here, slope = self(scales), float((self.shares - columns) @ step)
        lengths = (0.5**halvings for halvings in range(15))
        return next((scales + t * step for t in lengths if self(scales + t * step) >= here + 1e-4 * t * slope), None)


def balanced_classes(probabilities: Tensor, log_scales: Tensor, turns: Tensor, *, sharpness: float) -> Tensor:
    """Return each image's class in the plan, int64 (N,): argmax of sharpness log p_ic + log v_c.

    Scores that differ by less than the error of the scales are ties, and `turns` selects one of the tied classes.
    Otherwise all similar images would get the class with the lowest id.

    Args:
        probabilities: predicted class probabilities, (N, C).
        log_scales: see `class_log_scales`, (C,).
        turns: int64 (N,), >= 0, a number for each image that is independent of its class.
        sharpness: see `class_log_scales`.
    """
    scores = sharpness * probabilities.double().clamp_min(SMALLEST).log() + log_scales
    tied = scores >= scores.amax(dim=1, keepdim=True) - 2 * TOLERANCE
    taken = turns % tied.sum(dim=1)
    return (tied.cumsum(dim=1) > taken[:, None]).int().argmax(dim=1)


def largest_miss(counts: list[int], shares: Sequence[float]) -> float:
    """Return the largest relative deviation of a class's number of images from the wanted number."""
    wanted = np.array(shares) / sum(shares) * max(1, sum(counts))
    return float(np.abs(np.array(counts) / wanted - 1).max())
