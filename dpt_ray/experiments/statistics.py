"""Figures over seeds."""

import math
import statistics
from collections.abc import Sequence

from scipy.stats import t


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation (nan for a single value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def paired_interval(before: Sequence[float], after: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Return the mean of after - before and the bounds of Student's confidence interval for it.

    Raises:
        ValueError: fewer than two pairs, or lengths that differ.
    """
    differences = [b - a for a, b in zip(before, after, strict=True)]
    mean, deviation = mean_and_deviation(differences)
    if len(differences) < 2:
        raise ValueError("an interval needs at least two pairs")
    half = t.ppf((1 + level) / 2, len(differences) - 1) * deviation / math.sqrt(len(differences))
    return mean, mean - half, mean + half
