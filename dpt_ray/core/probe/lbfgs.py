"""L-BFGS for a smooth convex function (Liu and Nocedal 1989; Nocedal and Wright, Numerical Optimization, 7.2)."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

SUFFICIENT = 1e-4
"""Share of the decrease that the slope promises, at least (Armijo)."""
ROUNDING = 1e-6
"""Relative differences of the function below which its slopes say whether a step went down."""
MOST_TRIALS = 20
"""Steps along one direction, each at most half as long as the one before."""
MOST_STALLED = 10
"""Points in a row that are not lower than all before."""


@dataclass(frozen=True)
class Point:
    """Where, the function's value there and its gradient; both tensors are flat."""

    at: Tensor
    value: float
    gradient: Tensor


def lbfgs(
    evaluate: Callable[[Tensor], tuple[float, Tensor]], start: Point, *, first_step: float, history: int
) -> Iterator[Point]:
    """Yield ever lower points, but for rounding; it ends where they get no lower any more.

    Most steps are accepted at their full length, so a point costs little more than one evaluation.

    Args:
        evaluate: returns value and gradient, flat, at a point.
        start: where to begin.
        first_step: length of the first step, in gradients.
        history: steps that are remembered, each twice the size of a point.
    """
    point, length = start, first_step
    lowest, stalled = start.value, 0
    remembered: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=history)
    while stalled < MOST_STALLED:
        direction = _times_inverse_hessian(point.gradient, remembered).neg_()
        following = _step(evaluate, point, direction, length)
        if following is None:
            return
        moved, turned = following.at - point.at, following.gradient - point.gradient
        curvature = torch.dot(moved, turned).item()
        if curvature > 0:
            remembered.append((moved, turned, curvature))
        point, length = following, 1.0
        lowest, stalled = min(lowest, point.value), 0 if point.value < lowest else stalled + 1
        yield point


def _times_inverse_hessian(gradient: Tensor, remembered: deque[tuple[Tensor, Tensor, float]]) -> Tensor:
    """The two-loop recursion."""
    product = gradient.clone()
    shares = []
    for moved, turned, curvature in reversed(remembered):
        share = torch.dot(moved, product).item() / curvature
        product.add_(turned, alpha=-share)
        shares.append(share)
    if remembered:
        _, turned, curvature = remembered[-1]
        product *= curvature / torch.dot(turned, turned).item()
    for (moved, turned, curvature), share in zip(remembered, reversed(shares), strict=True):
        product.add_(moved, alpha=share - torch.dot(turned, product).item() / curvature)
    return product


def _step(
    evaluate: Callable[[Tensor], tuple[float, Tensor]], point: Point, direction: Tensor, length: float
) -> Point | None:
    """Return a point along a direction that is lower by enough; None if there is none."""
    slope = torch.dot(direction, point.gradient).item()
    if slope >= 0:
        return None
    for _ in range(MOST_TRIALS):
        at = point.at + length * direction
        value, gradient = evaluate(at)
        there = torch.dot(direction, gradient).item()
        lower = value <= point.value + SUFFICIENT * length * slope
        # Where differences of values are rounding, the slope behind the minimum tells how far it was passed
        # (Hager and Zhang 2005, approximate Wolfe conditions).
        equal = value <= point.value + ROUNDING * abs(point.value)
        if lower or (equal and there <= (2 * SUFFICIENT - 1) * slope):
            return Point(at, value, gradient)
        length *= _shorter(point.value, slope, value, there, length)
    return None


def _shorter(value: float, slope: float, value_there: float, slope_there: float, length: float) -> float:
    """Return the share of a step at which the cubic through values and slopes of its ends is lowest, kept sensible."""
    bend = slope + slope_there - 3 * (value_there - value) / length
    under_root = bend**2 - slope * slope_there
    if not 0 <= under_root < float("inf"):
        return 0.1
    root = under_root**0.5
    lowest = 1 - (slope_there + root - bend) / (slope_there - slope + 2 * root)
    return min(0.5, max(0.1, lowest))
