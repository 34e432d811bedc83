"""What a finished step says of a result that spoils the steps after it: what was found, and what to try.

Each function returns one sentence for a person, or None. The thresholds leave alone what a good run shows.
"""

import math
from collections.abc import Sequence

import numpy as np

from dpt_ray.core.metrics.uncertainty import PairedChange

LEAST_EFFECTIVE_CLASSES = 0.5
"""Share of the classes below which predictions count as collapsed. Two classes may be as uneven as 4 to 96."""
LARGEST_CALIBRATION_GAP = 0.2
"""Largest difference between mean confidence and accuracy on labelled images."""
LEAST_LABELLED = 10
"""Labelled images below which their accuracy says nothing."""
LEAST_AGREEMENT = 0.5
"""Share of the pseudo images in which stage 1 should see the class that was asked for."""
_AGREEING = "stage3.mixing.only_agreeing=true (for a probe stage3.probe.only_agreeing), unless it is set"
LEAST_SPREAD = 0.2
"""Least ratio of the spread of pseudo images to that of real images."""
_NAMED = 5


def empty_classes(predicted: Sequence[int], names: Sequence[str]) -> str | None:
    """Warn of classes that no image was predicted for.

    Args:
        predicted: images that each class was predicted for.
        names: of the classes.
    """
    empty = [name for name, count in zip(names, predicted, strict=True) if count == 0]
    if not empty:
        return None
    return (
        f"no image got a pseudo-label of {len(empty):,} of {len(names):,} classes ({_listed(empty)}), so the generator "
        "learns nothing of them; try pseudo_labels.assignment=balanced, more labels or more stage1.images"
    )


def collapse(predicted: Sequence[int]) -> str | None:
    """Warn of predictions that prefer a few classes, by the exponential of the entropy of their shares."""
    counts = np.asarray(predicted, np.float64)
    if not counts.any():
        return None
    shares = counts[counts > 0] / counts.sum()
    effective = math.exp(-(shares * np.log(shares)).sum())
    if effective >= max(1.18, LEAST_EFFECTIVE_CLASSES * len(counts)):
        return None
    return (
        f"stage 1 has collapsed: its predictions are as uneven as {effective:.1f} of {len(counts):,} classes "
        f"(the most frequent one has {shares.max():.0%}); try another stage1.algorithm.name, a lower "
        "stage1.optimizer.learning_rate or pseudo_labels.assignment=balanced"
    )


def calibration(confidence: float, accuracy: float, images: int) -> str | None:
    """Warn of a confidence that is far from the accuracy.

    Args:
        confidence: mean confidence on labelled images.
        accuracy: share of them with the right class.
        images: how many there are.
    """
    if images < LEAST_LABELLED or abs(confidence - accuracy) <= LARGEST_CALIBRATION_GAP:
        return None
    fix = (
        "try more labels, stronger stage1.augmentation or fewer stage1.images"
        if confidence > accuracy
        else "least_confidence settings leave out many right labels; try more stage1.images"
    )
    return (
        f"stage 1 has a mean confidence of {confidence:.0%} on the {images:,} labelled images and gets {accuracy:.0%} "
        f"of them right; {fix}"
    )


def low_spread(pseudo: float | None, real: float | None) -> str | None:
    """Warn of a generator whose images of a class are nearly equal.

    Args:
        pseudo: spread (`image_spread`) of pseudo images of a class; None if it is not known.
        real: that of training images.
    """
    if pseudo is None or not real or pseudo >= LEAST_SPREAD * real:
        return None
    return (
        f"pseudo images of a class are nearly equal: they differ by {pseudo / real:.0%} of what training images differ "
        "by; try more stage2.images, a lower stage2.optimizer.learning_rate or a lower sampling.guidance_scale"
    )


def image_spread(images: np.ndarray, labels: np.ndarray) -> float | None:
    """Return how much images of a class differ: the standard deviation of a pixel, averaged over pixels and classes.

    Args:
        images: uint8 (N, C, H, W).
        labels: class ids (N,). Classes with one image do not count.

    Returns:
        A value in grey levels; None if no class has two images.
    """
    groups = [images[labels == label] for label in np.unique(labels)]
    spreads = [group.std(axis=0).mean() for group in groups if len(group) > 1]
    return float(np.mean(spreads)) if spreads else None


def disagreement(requested: np.ndarray, right: np.ndarray, names: Sequence[str]) -> str | None:
    """Warn of pseudo images in which stage 1 does not see the class that was asked for.

    Args:
        requested: pseudo images of each class, int64 (C,).
        right: those of them in which stage 1 sees the class, int64 (C,).
        names: of the classes.
    """
    asked = np.flatnonzero(requested)
    shares = right[asked] / requested[asked]
    low = sorted((share, label) for share, label in zip(shares, asked.tolist(), strict=True) if share < LEAST_AGREEMENT)
    if not low:
        return None
    worst = _listed([f"{names[label]} ({share:.0%})" for share, label in low])
    return (
        f"stage 1 sees the class that was asked for in {right.sum() / requested.sum():.0%} of the pseudo images, "
        f"and in less than half of those of {len(low):,} of {len(names):,} classes ({worst}); try more stage2.images, "
        f"a higher sampling.guidance_scale or {_AGREEING}"
    )


def stage3_below(stage1: float, stage3: float, change: PairedChange | None) -> str | None:
    """Warn of a stage 3 that is worse than stage 1, beyond what chance explains.

    Args:
        stage1: accuracy of stage 1.
        stage3: accuracy of stage 3.
        change: both compared on the same held-out images.
    """
    if change is None or change.gain >= 0 or not change.is_distinguishable:
        return None
    return (
        f"stage 3 ({stage3:.1%}) is below stage 1 ({stage1:.1%}; McNemar's test: p = {change.p_value:.2g}): pseudo "
        f"images did harm; try more stage2.images, a higher stage3.mixing.real_share or {_AGREEING}"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
