"""Calibration of confidence: of images labelled with confidence 0.8, 80 % should be correct."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ReliabilityBin:
    """The images whose confidence lies in one interval.

    Attributes:
        images: number of images, at least 1.
        confidence: mean confidence of the images.
        accuracy: fraction of the images whose label is correct.
    """

    images: int
    confidence: float
    accuracy: float


BINS = 15
"""Number of intervals of confidence."""


def reliability(confidence: Tensor, correct: Tensor, bins: int = BINS) -> list[ReliabilityBin]:
    """Return the bins that contain images, by increasing confidence.

    Args:
        confidence: (N,) in [0, 1].
        correct: bool (N,), whether the label of each image is correct.
        bins: number of intervals, of equal width; a confidence on an edge belongs to the lower interval.

    Raises:
        ValueError: the shapes differ, or there is no image.
    """
    if confidence.shape != correct.shape or confidence.ndim != 1 or len(confidence) == 0:
        raise ValueError("confidence and correct must be vectors of one length, with at least one image")
    return bins_of(*bin_sums(confidence, correct, bins))


def bin_sums(confidence: Tensor, correct: Tensor, bins: int = BINS) -> tuple[Tensor, Tensor, Tensor]:
    """Return each interval's images, sum of confidence, and correct images, float64 (bins,) each; see `reliability`.

    The sums of two sets of images are those of both together.
    """
    number = (confidence.double() * bins).ceil().long().clamp(1, bins) - 1
    images = number.bincount(minlength=bins).double()
    return (
        images,
        number.bincount(confidence.double(), minlength=bins),
        number.bincount(correct.double(), minlength=bins),
    )


def bins_of(images: Tensor, confidences: Tensor, right: Tensor) -> list[ReliabilityBin]:
    """Return the bins that contain images; see `bin_sums`."""
    return [
        ReliabilityBin(int(n), float(c / n), float(r / n))
        for n, c, r in zip(images, confidences, right, strict=True)
        if n > 0
    ]


def mean_confidence(bins: list[ReliabilityBin]) -> float:
    """Return the mean confidence of all images."""
    return sum(bin.images * bin.confidence for bin in bins) / sum(bin.images for bin in bins)


def expected_calibration_error(bins: list[ReliabilityBin]) -> float:
    """Return the mean over images of |accuracy - confidence| of their bin.

    Source: Naeini et al. 2015; Guo et al. 2017, equation 5.
    """
    gaps = torch.tensor([bin.images * abs(bin.accuracy - bin.confidence) for bin in bins], dtype=torch.float64)
    return float(gaps.sum() / sum(bin.images for bin in bins))
