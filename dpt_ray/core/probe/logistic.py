"""Multinomial logistic regression without intercept, solved by preconditioned L-BFGS.

The objective of the paper's ImageNet classifiers: over W (C, D),

    1/N sum_i CE(softmax(W x_i), y_i) + l2/2 |W|^2.

At W = 0 its Hessian is (I - 1 1^T / C) / C (x) X^T X / N + l2 I, so how slowly L-BFGS converges follows from the
spectrum of X^T X, which falls over many orders of magnitude for features of a network. Solving for V in W = V R with
R = (X^T X / (N C) + damping I)^(-1/2) takes the spectrum away; an evaluation costs what it cost before.

Shapes: N rows, D features, C classes. Products of matrices are float32 as long as that gets further, sums over chunks
and the solver float64.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from dpt_ray.core.probe.lbfgs import Point, lbfgs

Chunks = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Starts a pass over the data: features float32 (n, D) and labels int64 (n,), in pieces of any size."""

DAMPING = 0.2
"""Of the preconditioner, relative to the mean eigenvalue."""
SAMPLED = 1024
"""Rows of each piece of the data from which the preconditioner is computed; evenly spread ones."""
HISTORY = 20
"""Steps that L-BFGS remembers, each of 2 C D numbers."""


@dataclass
class LogisticFit:
    """A solution and how it was found.

    Attributes:
        weight: float64 (C, D), on the CPU.
        objective: its value.
        gradient: largest entry of the gradient, absolute.
        converged: whether `gradient` reached the tolerance.
        objectives: of each evaluation; those of steps that went too far are higher.
    """

    weight: Tensor
    objective: float = float("nan")
    gradient: float = float("inf")
    converged: bool = False
    objectives: list[float] = field(default_factory=list)


def fit_logistic(
    chunks: Chunks,
    num_features: int,
    num_classes: int,
    *,
    l2: float,
    tolerance: float = 1e-6,
    max_evaluations: int = 1000,
    device: torch.device | str = "cpu",
    on_evaluation: Callable[[LogisticFit], None] = lambda fit: None,
) -> LogisticFit:
    """Minimise the objective.

    Args:
        chunks: the data; passed over once for each evaluation, so they may come from files.
        num_features: D.
        num_classes: C.
        l2: weight of the penalty, > 0.
        tolerance: largest entry of the gradient at which a solution is accepted.
        max_evaluations: passes over the data after which it gives up; the best so far is returned.
        device: where matrices are multiplied.
        on_evaluation: is told of every evaluation.

    Raises:
        ValueError: there is no row.
    """
    root, gradient = _at_zero(chunks, num_features, num_classes, l2, device)
    weight = torch.zeros_like(gradient)
    fit = LogisticFit(weight.cpu())
    start = Point(weight.flatten(), math.log(num_classes), (gradient @ root).flatten())

    def evaluate(flat: Tensor, products: torch.dtype) -> tuple[float, Tensor]:
        nonlocal weight, gradient
        if len(fit.objectives) >= max_evaluations:
            raise _GiveUpError
        weight = flat.view(num_classes, num_features) @ root
        objective, gradient = objective_and_gradient(chunks, weight, l2, products)
        fit.objectives.append(objective)
        on_evaluation(fit)
        return objective, (gradient @ root).flatten()

    with suppress(_GiveUpError):
        for products in (torch.float32, torch.float64):  # differences drown in float32's rounding at last
            first_step = 1 / max(start.gradient.norm().item(), 1e-300)
            if products == torch.float64:
                start, first_step = Point(start.at, *evaluate(start.at, products)), 1.0
            points = lbfgs(partial(evaluate, products=products), start, first_step=first_step, history=HISTORY)
            for start in chain([start], points):  # noqa: B020 - the point that was evaluated last
                fit.weight, fit.objective, fit.gradient = weight.cpu(), start.value, gradient.abs().max().item()
                fit.converged = fit.gradient <= tolerance
                if fit.converged:
                    return fit
    return fit


class _GiveUpError(Exception):
    """There were as many evaluations as are allowed."""


def objective_and_gradient(
    chunks: Chunks, weight: Tensor, l2: float, products: torch.dtype = torch.float64
) -> tuple[float, Tensor]:
    """Return the objective at `weight` (C, D), float64, and its gradient there, float64 (C, D) on the same device.

    Args:
        chunks: the data.
        weight: where.
        l2: weight of the penalty.
        products: what matrices are multiplied in.
    """
    used = weight.to(products)
    loss, gradient, rows = 0.0, torch.zeros_like(weight), 0
    for features, labels in chunks():
        features, target = features.to(weight.device, products), labels.to(weight.device)[:, None]
        log_probability = torch.log_softmax(features @ used.T, dim=1)
        loss -= log_probability.gather(1, target).double().sum().item()
        residual = log_probability.exp_()
        residual.scatter_add_(1, target, torch.full_like(target, -1, dtype=residual.dtype))
        gradient += residual.T @ features
        rows += len(features)
    return loss / rows + l2 / 2 * weight.square().sum().item(), gradient / rows + l2 * weight


def _at_zero(
    chunks: Chunks, num_features: int, num_classes: int, l2: float, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Return R and the gradient at W = 0, which the classes' sums of features give: float64 (D, D) and (C, D).

    Raises:
        ValueError: there is no row.
    """
    scatter = torch.zeros(num_features, num_features, dtype=torch.float64, device=device)
    sums = torch.zeros(num_classes, num_features, dtype=torch.float64, device=device)
    rows = sampled = 0
    for features, labels in chunks():
        features = features.to(device)
        sums.index_add_(0, labels.to(device), features.double())
        rows += len(features)
        sample = features[:: -(-len(features) // SAMPLED)] if len(features) else features
        scatter += sample.T @ sample
        sampled += len(sample)
    if rows == 0:
        raise ValueError("there is no row to fit")
    values, vectors = torch.linalg.eigh(scatter / (sampled * num_classes))
    values = values.clamp_min(0) + max(l2, DAMPING * values.mean().item())
    return (vectors * values.rsqrt()) @ vectors.T, (sums.sum(0) / num_classes - sums) / rows
