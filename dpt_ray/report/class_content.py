"""What a report says of each class, as plain values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard


@dataclass(frozen=True)
class ClassAudit:
    """What became of one class.

    Attributes:
        name: the user's name of the class.
        images: training images that truly belong to it; None if true labels are not known.
        labelled: images whose label training was shown.
        pseudo_labelled: images that stage 1 put into the class.
        precision: share of those that belong to it.
        recall: share of its images that stage 1 found.
        stage1_accuracy: share of its held-out images that the stage-1 classifier gets right.
        stage3_accuracy: the same of the retrained classifier.
        agreement: share of its pseudo images in which stage 1 sees the class.
        distance: Fréchet distance between its real and its pseudo images, in stage 1's features.
    """

    name: str
    images: int | None
    labelled: int
    pseudo_labelled: int
    precision: float | None = None
    recall: float | None = None
    stage1_accuracy: float | None = None
    stage3_accuracy: float | None = None
    agreement: float | None = None
    distance: float | None = None

    @property
    def change(self) -> float | None:
        """Accuracy that the class gained from stage 1 to stage 3; None unless both are known."""
        if not (is_known(self.stage1_accuracy) and is_known(self.stage3_accuracy)):
            return None
        return self.stage3_accuracy - self.stage1_accuracy


@dataclass(frozen=True)
class ConfusedPair:
    """Held-out images of one class that are predicted as one class.

    Attributes:
        true: position of the class that they have.
        predicted: position of the class that is predicted.
        images: their number.
    """

    true: int
    predicted: int
    images: int


@dataclass(frozen=True)
class Confusion:
    """The confusion matrix of a classifier on held-out images.

    Attributes:
        title: which classifier.
        class_names: name of each class.
        pairs: the entries that are not 0.
    """

    title: str
    class_names: Sequence[str]
    pairs: Sequence[ConfusedPair]

    def images_of(self) -> list[int]:
        """Return the number of held-out images of each class."""
        images = [0] * len(self.class_names)
        for pair in self.pairs:
            images[pair.true] += pair.images
        return images

    def mistakes(self) -> list[ConfusedPair]:
        """Return the pairs of different classes, the most frequent first."""
        wrong = [pair for pair in self.pairs if pair.true != pair.predicted]
        return sorted(wrong, key=lambda pair: (-pair.images, pair.true, pair.predicted))


def is_known(value: float | None) -> TypeGuard[float]:
    """Say whether `value` is a number that can be ordered and drawn."""
    return value is not None and math.isfinite(value)


def most_changed(classes: Sequence[ClassAudit], limit: int) -> list[ClassAudit]:
    """Return the classes of highest and of lowest gain in accuracy, at most `limit`, highest first."""
    known = [(change, audit) for audit in classes if (change := audit.change) is not None]
    ranked = [audit for _, audit in sorted(known, key=lambda pair: -pair[0])]
    if len(ranked) <= limit:
        return ranked
    return ranked[: limit - limit // 2] + ranked[len(ranked) - limit // 2 :]


def by_accuracy(classes: Sequence[ClassAudit]) -> list[ClassAudit]:
    """Sort classes by the accuracy of stage 3, lowest first; those whose accuracy is not known come last."""
    return sorted(classes, key=lambda audit: audit.stage3_accuracy if is_known(audit.stage3_accuracy) else math.inf)


def best_and_worst(classes: Sequence[ClassAudit], limit: int) -> tuple[list[ClassAudit], list[ClassAudit]]:
    """Sort classes by the accuracy of stage 3, lowest first.

    Args:
        classes: all classes.
        limit: how many are shown at once.

    Returns:
        The worst and the best classes, `limit` together; the second list is empty if all classes are among the first.
        Classes whose accuracy is not known follow those whose accuracy is.
    """
    ranked = by_accuracy(classes)
    if len(ranked) <= limit:
        return ranked, []
    known = [audit for audit in ranked if is_known(audit.stage3_accuracy)]
    half = limit // 2
    if len(known) < limit:
        return ranked[:limit], []
    return known[: limit - half], known[-half:][::-1]


def rank_correlation(first: Sequence[float | None], second: Sequence[float | None]) -> float | None:
    """Return Spearman's rank correlation over the classes of which both values are known.

    Returns:
        A number in [-1, 1]; None for fewer than three classes, or where all values of one side are equal.
    """
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if is_known(a) and is_known(b)]
    if len(pairs) < 3 or any(len(set(side)) == 1 for side in zip(*pairs, strict=True)):
        return None
    from scipy.stats import spearmanr  # loads slowly

    return float(spearmanr([a for a, _ in pairs], [b for _, b in pairs]).statistic)
