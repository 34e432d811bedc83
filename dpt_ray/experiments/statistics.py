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
    return statistics.fmean(differences), *mean_interval(differences, level)


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Return the bounds of Student's confidence interval for the mean.

    Raises:
        ValueError: fewer than two values.
    """
    if len(values) < 2:
        raise ValueError("an interval needs at least two values")
    mean, deviation = mean_and_deviation(values)
    half = t.ppf((1 + level) / 2, len(values) - 1) * deviation / math.sqrt(len(values))
    return float(mean - half), float(mean + half)


def score_text(values: Sequence[float], digits: int = 1) -> str:
    """Return accuracies over seeds as text: their mean and standard deviation in per cent; of one seed no deviation."""
    mean, deviation = mean_and_deviation(values)
    return f"{mean:.{digits}%}" if len(values) == 1 else f"{mean:.{digits}%} ± {deviation:.{digits}%}"


def gain_text(before: Sequence[float], after: Sequence[float]) -> str:
    """Return what accuracies gain, paired by seed: mean and interval in points; nothing for a single seed."""
    if len(before) < 2:
        return ""
    mean, low, high = (100 * value for value in paired_interval(before, after))
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
