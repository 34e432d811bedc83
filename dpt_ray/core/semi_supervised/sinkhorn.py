"""Balanced assignment of classes by entropic optimal transport (Cuturi 2013; for labels: Asano et al. 2020).

Shapes: N images, C classes.
"""

import math

import torch
from torch import Tensor

SMALLEST = 6e-8
"""Probabilities below it, half precision's smallest, count as it."""


def class_log_scales(
    probabilities: Tensor, shares: Tensor, *, sharpness: float, tolerance: float = 1e-3, max_iterations: int = 1000
) -> Tensor:
    """Return log v, float64 (C,), the scales of the balanced transport plan p_ic^sharpness u_i v_c.

    The plan's rows are 1 / N each and its columns follow `shares`. The scales alone carry over to other images of the
    same distribution, so a sample of a data set is enough to find them.

    Args:
        probabilities: (N, C), of images.
        shares: (C,), > 0, of the images in each class; scaled to sum 1.
        sharpness: the inverse of the entropic regularisation.
        tolerance: largest relative error of a column at the end.
        max_iterations: of Sinkhorn's algorithm, after which it ends in any case.
    """
    costs = sharpness * probabilities.double().clamp_min(SMALLEST).log()
    wanted = (shares.double() / shares.double().sum()).log()
    scales = torch.zeros_like(wanted)
    for _ in range(max_iterations):
        rows = (costs + scales).logsumexp(dim=1, keepdim=True) + math.log(len(costs))
        columns = (costs - rows).logsumexp(dim=0)
        error = (columns + scales - wanted).abs().max()
        scales = wanted - columns
        if error <= tolerance:
            break
    return scales


def balanced_classes(probabilities: Tensor, log_scales: Tensor, *, sharpness: float) -> Tensor:
    """Return each image's class in the plan, int64 (N,): argmax of sharpness log p_ic + log v_c."""
    return (sharpness * probabilities.double().clamp_min(SMALLEST).log() + log_scales).argmax(dim=1)
