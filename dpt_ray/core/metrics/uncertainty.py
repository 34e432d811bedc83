"""How sure an accuracy is, and whether two classifiers differ, judged on the same images."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from torch import Tensor

LEVEL = 0.95
"""Level of confidence of every interval; a p-value below one minus it tells two classifiers apart."""
DEVIATIONS = NormalDist().inv_cdf((1 + LEVEL) / 2)
"""Half the width of an interval of a normal distribution at `LEVEL`, in standard deviations."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval at `LEVEL`."""

    low: float
    high: float


@dataclass(frozen=True)
class PairedChange:
    """What changes from a first to a second classifier on the same images.

    Attributes:
        images: number of images.
        mended: images that the first gets wrong and the second right.
        broken: images that the first gets right and the second wrong.
        gain: accuracy of the second minus that of the first.
        interval: of the gain.
        p_value: of McNemar's exact test that both have the same accuracy.
    """

    images: int
    mended: int
    broken: int
    gain: float
    interval: Interval
    p_value: float

    @property
    def is_distinguishable(self) -> bool:
        """Whether the test tells the classifiers apart."""
        return self.p_value < 1 - LEVEL


def wilson_interval(right: int, images: int) -> Interval:
    """Return the score interval of an accuracy.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927).

    Args:
        right: images that are classified right.
        images: all images, at least one.
    """
    from scipy.stats import binomtest  # loads slowly

    bounds = binomtest(right, images).proportion_ci(LEVEL, method="wilson")
    return Interval(float(bounds.low), float(bounds.high))


def compare_paired(labels: Tensor, first: Tensor, second: Tensor) -> PairedChange:
    """Compare two classifiers on the same images; see `paired_change`.

    Args:
        labels: true classes, int64 (N,).
        first: classes that the first classifier predicts, int64 (N,).
        second: those of the second.

    Raises:
        ValueError: the shapes differ, or there is no image.
    """
    if not labels.shape == first.shape == second.shape or labels.ndim != 1 or len(labels) == 0:
        raise ValueError("labels and predictions must be vectors of one length, with at least one image")
    was_right, is_right = first == labels, second == labels
    return paired_change(len(labels), int((is_right & ~was_right).sum()), int((was_right & ~is_right).sum()))


def paired_change(images: int, mended: int, broken: int) -> PairedChange:
    """Compare two classifiers on the same images, by what changes between them.

    The test is exact and two-sided: among the images on which just one classifier is right, each is equally likely to
    be that one. The interval of the gain adds one image to either side of the disagreement.

    Sources: McNemar, Psychometrika 12 (1947); Bonett and Price, "Adjusted Wald Confidence Interval for a Difference of
    Binomial Proportions Based on Paired Data", J. Educ. Behav. Stat. 37 (2012).

    Args:
        images: number of images, at least one.
        mended: images that the first gets wrong and the second right.
        broken: images that the first gets right and the second wrong.
    """
    from scipy.stats import binomtest  # loads slowly

    up, down = (mended + 1) / (images + 2), (broken + 1) / (images + 2)
    half = DEVIATIONS * math.sqrt((up + down - (up - down) ** 2) / (images + 2))
    return PairedChange(
        images=images,
        mended=mended,
        broken=broken,
        gain=(mended - broken) / images,
        interval=Interval(max(-1.0, up - down - half), min(1.0, up - down + half)),
        p_value=float(binomtest(mended, mended + broken).pvalue) if mended + broken else 1.0,
    )
