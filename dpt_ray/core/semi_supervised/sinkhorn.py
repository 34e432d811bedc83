"""Balanced assignment of classes by entropic optimal transport (Cuturi 2013; for labels: Asano et al. 2020).

Shapes: N images, C classes.
"""

import math
from dataclasses import dataclass

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
        error: a bound on the largest relative error of a column of the plan, in logarithms.
        converged: the error is within the tolerance.
    """

    log: Tensor
    error: float
    converged: bool


def class_log_scales(
    probabilities: Tensor, shares: Tensor, *, sharpness: float, tolerance: float = TOLERANCE, max_iterations: int = 1000
) -> ClassScales:
    """Return the scales v of the balanced transport plan p_ic^sharpness u_i v_c.

    The plan's rows are 1 / N each and its columns follow `shares`. The scales alone carry over to other images of the
    same distribution, so a sample of a data set is enough to find them.

    Args:
        probabilities: (N, C), of images.
        shares: (C,), > 0, of the images in each class; scaled to sum 1.
        sharpness: the inverse of the entropic regularisation.
        tolerance: largest relative error of a column at the end.
        max_iterations: of Sinkhorn's algorithm, at least 1, after which it ends in any case.
    """
    costs = sharpness * probabilities.double().clamp_min(SMALLEST).log()
    wanted = (shares.double() / shares.double().sum()).log()
    scales = torch.zeros_like(wanted)
    error = math.inf
    for _ in range(max_iterations):
        rows = (costs + scales).logsumexp(dim=1, keepdim=True) + math.log(len(costs))
        columns = (costs - rows).logsumexp(dim=0)
        error = float((columns + scales - wanted).abs().max())  # an iteration never makes it larger
        scales = wanted - columns
        if error <= tolerance:
            break
    return ClassScales(scales, error, error <= tolerance)


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
