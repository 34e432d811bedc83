"""Multinomial logistic regression without intercept, solved by preconditioned L-BFGS.

The objective over W (C, D) is that of the paper's ImageNet classifiers:

    1/N sum_i CE(softmax(W x_i), y_i) + l2/2 |W|^2.

Its Hessian at W = 0 is (I - 1 1^T / C) / C (x) X^T X / N + l2 I. The convergence of L-BFGS depends on the spectrum of
X^T X, which spans many orders of magnitude for features of a network. Preconditioning makes the spectrum nearly flat:
the solver works on V in W = V R, with R = (X^T X / (N C) + damping I)^(-1/2). An evaluation costs the same as before.

Shapes: N rows, D features, C classes. Matrices are multiplied in float32 while the solver makes progress, then in
float64. Sums over chunks and the solver are float64.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from dpt_ray.core.lbfgs import Point, lbfgs

Chunks = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Starts a pass over the data: chunks of any size n, each with features float32 (n, D) and labels int64 (n,), or with
the probability of each class, float (n, C), in place of labels. Then y_i in the objective is a distribution."""

DAMPING = 0.2
"""Damping of the preconditioner, relative to the mean eigenvalue."""
SAMPLED_ROWS = 1024
"""Evenly spaced rows of each chunk from which the preconditioner is computed."""
HISTORY = 20
"""Pairs that L-BFGS keeps, each of 2 C D numbers."""


@dataclass
class LogisticFit:
    """A solution and the course of the solver.

    Attributes:
        weight: float64 (C, D), on the CPU.
        objective: the objective at `weight`.
        gradient: largest absolute entry of the gradient at `weight`.
        converged: whether `gradient` is at most the tolerance.
        objectives: the objective of each evaluation; higher for rejected steps.
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
        chunks: the data; read once for each evaluation, so chunks may come from files.
        num_features: D.
        num_classes: C.
        l2: weight of the penalty, > 0.
        tolerance: largest absolute entry of the gradient at which the solver has converged.
        max_evaluations: evaluations after which the solver stops; the last accepted point is returned then.
        device: device of the matrix products.
        on_evaluation: called after each evaluation with the fit so far.

    Returns:
        The solution; `converged` is False if the solver stopped before.

    Raises:
        ValueError: the data have no rows.
    """
    root, gradient = _precondition(chunks, num_features, num_classes, l2, device)
    weight = torch.zeros_like(gradient)
    fit = LogisticFit(weight.cpu())
    start = Point(weight.flatten(), math.log(num_classes), (gradient @ root).flatten())

    def evaluate(flat: Tensor, dtype: torch.dtype) -> tuple[float, Tensor]:
        nonlocal weight, gradient
        if len(fit.objectives) >= max_evaluations:
            raise _EvaluationsSpentError
        weight = flat.view(num_classes, num_features) @ root
        objective, gradient = objective_and_gradient(chunks, weight, l2, dtype)
        fit.objectives.append(objective)
        on_evaluation(fit)
        return objective, (gradient @ root).flatten()

    with suppress(_EvaluationsSpentError):
        # Near the minimum, differences of the objective are below the rounding of float32. The solver then stops, and
        # starts again from its last point in float64.
        for dtype in (torch.float32, torch.float64):
            first_step = 1 / max(start.gradient.norm().item(), 1e-300)
            if dtype == torch.float64:
                start, first_step = Point(start.at, *evaluate(start.at, dtype)), 1.0
            points = lbfgs(partial(evaluate, dtype=dtype), start, first_step=first_step, history=HISTORY)
            for start in chain([start], points):  # noqa: B020 - the last point starts the second solver
                fit.weight, fit.objective, fit.gradient = weight.cpu(), start.value, gradient.abs().max().item()
                fit.converged = fit.gradient <= tolerance
                if fit.converged:
                    return fit
    return fit


class _EvaluationsSpentError(Exception):
    """The allowed number of evaluations is reached."""


def objective_and_gradient(
    chunks: Chunks, weight: Tensor, l2: float, dtype: torch.dtype = torch.float64
) -> tuple[float, Tensor]:
    """Return the objective and its gradient, float64 (C, D) on the device of `weight`.

    Args:
        chunks: the data.
        weight: the point, float64 (C, D).
        l2: weight of the penalty.
        dtype: dtype of the matrix products.
    """
    used = weight.to(dtype)
    loss, gradient, rows = 0.0, torch.zeros_like(weight), 0
    for features, labels in chunks():
        features = features.to(weight.device, dtype)
        log_probability = torch.log_softmax(features @ used.T, dim=1)
        if labels.ndim == 2:
            target = labels.to(weight.device, dtype)
            loss -= (target * log_probability).double().sum().item()
            residual = log_probability.exp_() - target
        else:
            target = labels.to(weight.device)[:, None]
            loss -= log_probability.gather(1, target).double().sum().item()
            residual = log_probability.exp_()
            residual.scatter_add_(1, target, torch.full_like(target, -1, dtype=residual.dtype))
        gradient += residual.T @ features
        rows += len(features)
    return loss / rows + l2 / 2 * weight.square().sum().item(), gradient / rows + l2 * weight


def _precondition(
    chunks: Chunks, num_features: int, num_classes: int, l2: float, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Return the preconditioner R, float64 (D, D), and the gradient at W = 0, float64 (C, D), from one pass.

    At W = 0 all probabilities are 1 / C, so the gradient follows from the sums of features of each class.

    Raises:
        ValueError: the data have no rows.
    """
    scatter = torch.zeros(num_features, num_features, dtype=torch.float64, device=device)
    sums = torch.zeros(num_classes, num_features, dtype=torch.float64, device=device)
    rows = sampled_rows = 0
    for features, labels in chunks():
        features = features.to(device)
        if labels.ndim == 2:
            sums += labels.to(device, torch.float64).T @ features.double()
        else:
            sums.index_add_(0, labels.to(device), features.double())
        rows += len(features)
        sample = features[:: -(-len(features) // SAMPLED_ROWS)] if len(features) else features
        scatter += sample.T @ sample
        sampled_rows += len(sample)
    if rows == 0:
        raise ValueError("the data have no rows")
    values, vectors = torch.linalg.eigh(scatter / (sampled_rows * num_classes))
    values = values.clamp_min(0) + max(l2, DAMPING * values.mean().item())
    return (vectors * values.rsqrt()) @ vectors.T, (sums.sum(0) / num_classes - sums) / rows
