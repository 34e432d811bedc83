"""L-BFGS for smooth convex functions (Liu and Nocedal 1989; Nocedal and Wright, Numerical Optimization, 7.2).

As in the literature, s is the difference of two consecutive points and y the difference of their gradients.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

ARMIJO = 1e-4
"""Armijo's constant: a step must decrease the function by this fraction of the linear prediction."""
ROUNDING = 1e-6
"""Relative difference of function values that counts as rounding; below it the line search compares slopes."""
MAX_TRIALS = 20
"""Trial steps of a line search. Each is at most half as long as the one before."""
MAX_STALLED = 10
"""Consecutive points without a new minimum after which the solver stops."""


@dataclass(frozen=True)
class Point:
    """A point with the function's value and gradient.

    Attributes:
        at: (n,) coordinates.
        value: the function there.
        gradient: (n,) its gradient there.
    """

    at: Tensor
    value: float
    gradient: Tensor


def lbfgs(
    evaluate: Callable[[Tensor], tuple[float, Tensor]], start: Point, *, first_step: float, history: int
) -> Iterator[Point]:
    """Yield points of decreasing value, up to rounding. Stop when no further decrease is found.

    Most steps are accepted at full length, so a point costs little more than one evaluation.

    Args:
        evaluate: maps a point (n,) to the function's value and its gradient (n,).
        start: the first point.
        first_step: length of the first step, as a multiple of the gradient.
        history: number of pairs (s, y) that are kept; each takes the memory of two points.
    """
    point, length = start, first_step
    lowest, stalled = start.value, 0
    pairs: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=history)
    while stalled < MAX_STALLED:
        direction = _times_inverse_hessian(point.gradient, pairs).neg_()
        following = _line_search(evaluate, point, direction, length)
        if following is None:
            return
        s, y = following.at - point.at, following.gradient - point.gradient
        curvature = torch.dot(s, y).item()
        # Rounding can make the curvature of a convex function negative; such a pair would make the approximate inverse
        # Hessian indefinite.
        if curvature > 0:
            pairs.append((s, y, curvature))
        point, length = following, 1.0
        lowest, stalled = min(lowest, point.value), 0 if point.value < lowest else stalled + 1
        yield point


def _times_inverse_hessian(gradient: Tensor, pairs: deque[tuple[Tensor, Tensor, float]]) -> Tensor:
    """Multiply a gradient by the approximate inverse Hessian: the two-loop recursion of pairs (s, y, s y)."""
    product = gradient.clone()
    alphas = []
    for s, y, curvature in reversed(pairs):
        alpha = torch.dot(s, product).item() / curvature
        product.add_(y, alpha=-alpha)
        alphas.append(alpha)
    if pairs:
        _, y, curvature = pairs[-1]
        product *= curvature / torch.dot(y, y).item()
    for (s, y, curvature), alpha in zip(pairs, reversed(alphas), strict=True):
        product.add_(s, alpha=alpha - torch.dot(y, product).item() / curvature)
    return product


def _line_search(
    evaluate: Callable[[Tensor], tuple[float, Tensor]], point: Point, direction: Tensor, length: float
) -> Point | None:
    """Backtrack along a direction to a point of sufficient decrease; None if there is none."""
    slope = torch.dot(direction, point.gradient).item()
    if slope >= 0:
        return None
    for _ in range(MAX_TRIALS):
        at = point.at + length * direction
        value, gradient = evaluate(at)
        slope_there = torch.dot(direction, gradient).item()
        lower = value <= point.value + ARMIJO * length * slope
        # Near the minimum, differences of values are rounding. The slope at the end of the step still shows whether the
        # step went too far (approximate Wolfe conditions, Hager and Zhang 2005).
        equal = value <= point.value + ROUNDING * abs(point.value)
        if lower or (equal and slope_there <= (2 * ARMIJO - 1) * slope):
            return Point(at, value, gradient)
        length *= _cubic_minimum(point.value, slope, value, slope_there, length)
    return None


def _cubic_minimum(value: float, slope: float, value_there: float, slope_there: float, length: float) -> float:
    """Return the minimum of the cubic through values and slopes at both ends of a step.

    It is a fraction of the step, clamped to [0.1, 0.5]; 0.1 if the cubic has no minimum.
    """
    bend = slope + slope_there - 3 * (value_there - value) / length
    discriminant = bend**2 - slope * slope_there
    if not 0 <= discriminant < float("inf"):
        return 0.1
    root = discriminant**0.5
    lowest = 1 - (slope_there + root - bend) / (slope_there - slope + 2 * root)
    return min(0.5, max(0.1, lowest))
