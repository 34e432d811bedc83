"""Balanced assignment of classes by entropic optimal transport (Cuturi 2013; for labels: Asano et al. 2020).

Shapes: N images, C classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SMALLEST = 6e-8
"""Probabilities below it, half precision's smallest, count as it."""
TOLERANCE = 1e-3


@dataclass(frozen=True)
class ClassScales:
    """How much the balanced plan favours each class.

    Attributes:
        log: log v, float64 (C,).
        error: the largest relative error of a column of the plan, in logarithms.
        converged: the error is within the tolerance.
    """

    log: Tensor
    error: float
    converged: bool


def class_log_scales(
    probabilities: Tensor, shares: Tensor, *, sharpness: float, tolerance: float = TOLERANCE, max_iterations: int = 200
) -> ClassScales:
    """Return the scales v of the balanced transport plan p_ic^sharpness u_i v_c.

    The plan's rows are 1 / N each and its columns follow `shares`. The scales alone carry over to other images of the
    same distribution, so a sample of a data set is enough to find them.

    Log v is the maximum of a concave function of C numbers. Sinkhorn's iteration climbs it in thousands of turns for
    probabilities near 0 and 1, so each turn takes Newton's step, shortened until it climbs, where that climbs higher.

    Args:
        probabilities: (N, C), of images.
        shares: (C,), > 0, of the images in each class; scaled to sum 1.
        sharpness: the inverse of the entropic regularisation.
        tolerance: largest relative error of a column at the end.
        max_iterations: after which it ends in any case.
    """
    dual = _Dual(sharpness * probabilities.double().clamp_min(SMALLEST).log(), shares.double() / shares.double().sum())
    scales = torch.zeros_like(dual.shares)
    error = math.inf
    for turn in range(max_iterations + 1):
        columns = dual.log_columns(scales)
        error = float((columns - dual.shares.log()).abs().max())
        if error <= tolerance or turn == max_iterations:
            break
        sinkhorn, newton = scales + dual.shares.log() - columns, dual.newton(scales)
        scales = newton if newton is not None and dual(newton) >= dual(sinkhorn) else sinkhorn
    return ClassScales(scales, error, error <= tolerance)


class _Dual:
    """The function of log v that the plan's scales maximise; its slope is the wanted less the present columns."""

    def __init__(self, costs: Tensor, shares: Tensor):
        self._costs, self.shares = costs, shares

    def __call__(self, scales: Tensor) -> float:
        return float(self.shares @ scales - (self._costs + scales).logsumexp(dim=1).mean())

    def log_columns(self, scales: Tensor) -> Tensor:
        """Return the logarithms of the sums of the plan's columns (C,), its rows being as wanted."""
        return (self._costs + scales).log_softmax(dim=1).logsumexp(dim=0) - math.log(len(self._costs))

    def newton(self, scales: Tensor) -> Tensor | None:
        """Return scales a Newton step higher, shortened as needed; None where none is found."""
        plan = (self._costs + scales).softmax(dim=1)
        columns = plan.mean(dim=0)
        curvature = columns.diag() - plan.T @ plan / len(plan)
        # A constant added to all scales changes nothing, nor may scales of classes that share no image.
        flat = columns.mean() * (1 / len(columns) + 1e-9 * torch.eye(len(columns), dtype=plan.dtype))
        step, failed = torch.linalg.solve_ex(curvature + flat, self.shares - columns)
        if failed or not step.isfinite().all():
            return None
        here, slope = self(scales), float((self.shares - columns) @ step)
        lengths = (0.5**halvings for halvings in range(15))
        return next((scales + t * step for t in lengths if self(scales + t * step) >= here + 1e-4 * t * slope), None)


def balanced_classes(probabilities: Tensor, log_scales: Tensor, turns: Tensor, *, sharpness: float) -> Tensor:
    """Return each image's class in the plan, int64 (N,): argmax of sharpness log p_ic + log v_c.

    Scores that differ by less than the scales are known are ties; each image takes one of its tied classes by its turn.
    Otherwise images that look alike would all go to the class of the lowest id.

    Args:
        probabilities: (N, C), of images.
        log_scales: (C,), see `class_log_scales`.
        turns: int64 (N,), >= 0, a number of each image that has nothing to do with its class.
        sharpness: as for the scales.
    """
    scores = sharpness * probabilities.double().clamp_min(SMALLEST).log() + log_scales
    tied = scores >= scores.amax(dim=1, keepdim=True) - 2 * TOLERANCE
    taken = turns % tied.sum(dim=1)
    return (tied.cumsum(dim=1) > taken[:, None]).int().argmax(dim=1)


def largest_miss(counts: list[int], shares: Sequence[float]) -> float:
    """Return by what part of its wanted number of images a class has too many or too few, at most."""
    wanted = np.array(shares) / sum(shares) * max(1, sum(counts))
    return float(np.abs(np.array(counts) / wanted - 1).max())
