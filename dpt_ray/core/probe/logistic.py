"""Multinomial logistic regression without intercept, solved by preconditioned L-BFGS.

The objective of the paper's ImageNet classifiers: over W (C, D),

    1/N sum_i CE(softmax(W x_i), y_i) + l2/2 |W|^2.

At W = 0 its Hessian is (I - 1 1^T / C) / C (x) X^T X / N + l2 I, so how slowly L-BFGS converges follows from the
spectrum of X^T X, which falls over many orders of magnitude for features of a network. Solving for V in W = V R with
R = (X^T X / (N C) + damping I)^(-1/2) takes the spectrum away; an evaluation costs what it cost before.

Shapes: N rows, D features, C classes. Products of matrices are float32 as long as that gets further, sums over chunks
and the solver float64.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.optimize import OptimizeResult, minimize
from torch import Tensor

Chunks = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Starts a pass over the data: features float32 (n, D) and labels int64 (n,), in pieces of any size."""

DAMPING = 0.1
"""Of the preconditioner, relative to the mean eigenvalue."""
HISTORY = 20
"""Pairs of steps and gradients that L-BFGS keeps, each of C D numbers."""


@dataclass
class LogisticFit:
    """A solution and how it was found.

    Attributes:
        weight: float64 (C, D), on the CPU.
        objective: its value.
        gradient: largest entry of the gradient, absolute.
        converged: whether `gradient` reached the tolerance.
        objectives: of each evaluation.
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
    root, inverse_root = _preconditioner(chunks, num_features, num_classes, l2, device)
    fit = LogisticFit(torch.zeros(num_classes, num_features, dtype=torch.float64))

    def evaluate(flat: np.ndarray, products: torch.dtype) -> tuple[float, np.ndarray]:
        weight = torch.from_numpy(flat).view(num_classes, num_features).to(device) @ root
        objective, gradient = objective_and_gradient(chunks, weight, l2, products)
        fit.weight, fit.objective, fit.gradient = weight.cpu(), objective, gradient.abs().max().item()
        fit.objectives.append(objective)
        on_evaluation(fit)
        return objective, (gradient @ root).flatten().cpu().numpy()

    def stop_at_tolerance(intermediate_result: OptimizeResult) -> None:
        # The accepted point is the one evaluated last.
        fit.converged = fit.gradient <= tolerance
        if fit.converged or len(fit.objectives) >= max_evaluations:
            raise StopIteration

    # A line search compares objectives, so float32 gets no further once their differences drown in its rounding.
    for products in (torch.float32, torch.float64):
        left = max_evaluations - len(fit.objectives)
        if fit.converged or left <= 0:
            break
        start = (fit.weight.to(device) @ inverse_root).flatten().cpu().numpy()
        options = {"maxcor": HISTORY, "maxiter": left, "maxfun": left, "ftol": 0.0, "gtol": 0.0}
        found = minimize(evaluate, start, (products,), "L-BFGS-B", True, callback=stop_at_tolerance, options=options)
        if not fit.converged:  # the last point looked at may not be the best
            evaluate(found.x, products)
            fit.converged = fit.gradient <= tolerance
    return fit


def objective_and_gradient(
    chunks: Chunks, weight: Tensor, l2: float, products: torch.dtype = torch.float64
) -> tuple[float, Tensor]:
    """Return the objective at `weight` (C, D), float64, and its gradient there, float64 (C, D) on the same device.

    Args:
        chunks: the data.
        weight: where.
        l2: weight of the penalty.
        products: what matrices are multiplied in.

    Raises:
        ValueError: there is no row.
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
    if rows == 0:
        raise ValueError("there is no row to fit")
    return loss / rows + l2 / 2 * weight.square().sum().item(), gradient / rows + l2 * weight


def _preconditioner(
    chunks: Chunks, num_features: int, num_classes: int, l2: float, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Return R and its inverse, symmetric float64 (D, D)."""
    scatter = torch.zeros(num_features, num_features, dtype=torch.float64, device=device)
    rows = 0
    for features, _ in chunks():
        features = features.to(device)
        scatter += features.T @ features
        rows += len(features)
    values, vectors = torch.linalg.eigh(scatter / (max(1, rows) * num_classes))
    values = values.clamp_min(0) + max(l2, DAMPING * values.mean().item())
    return (vectors * values.rsqrt()) @ vectors.T, (vectors * values.sqrt()) @ vectors.T
