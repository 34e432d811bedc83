"""What a run report says, as plain values: no files, no pictures, no HTML.

Shares and accuracies lie in [0, 1]. None stands for "not known" (a class whose true labels the user
does not have); NaN stands for "computed, and not a number".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

if TYPE_CHECKING:  # the core loads torch, which a report does without
    from dpt_ray.core.metrics.calibration import ReliabilityBin

IMAGES_COLUMN = "images"


@dataclass(frozen=True)
class Figure:
    """One headline number.

    Attributes:
        label: what it is, two or three words.
        value: ready to print, with its unit.
        note: what to compare it with, or what it was measured on; may be empty.
    """

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Metric:
    """One measured number with its meaning in a sentence; `unit` is empty for a pure number.

    Attributes:
        id: names it for programs; never changes.
        name: names it for people.
    """

    id: str
    name: str
    value: float
    unit: str
    meaning: str


@dataclass(frozen=True)
class Curve:
    """The history of one training.

    Attributes:
        title: which training.
        x_label: what the column "images" counts.
        rows: each has "images" and metrics (loss, mask_share, ...), means since the row before. A metric may be
            absent from some rows.
    """

    title: str
    x_label: str
    rows: Sequence[dict[str, float]]

    def series(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return (images, values) of every metric, float64, without the rows that lack it."""
        names = dict.fromkeys(name for row in self.rows for name in row if name != IMAGES_COLUMN)
        columns = {}
        for name in names:
            pairs = [(row[IMAGES_COLUMN], row[name]) for row in self.rows if row.get(name) is not None]
            if pairs:
                x, y = np.asarray(pairs, dtype=np.float64).T
                columns[name] = (x, y)
        return columns


@dataclass(frozen=True, eq=False)
class SampleGrid:
    """Pseudo images, class by class: the first ones made, since the page says that none was chosen by hand.

    Attributes:
        images: uint8, (num_classes, per_class, C, H, W) with C 1 or 3.
        class_names: one a class.
        caption: how they were made.
    """

    images: np.ndarray
    class_names: Sequence[str]
    caption: str = ""

    def __post_init__(self) -> None:
        shape, dtype = self.images.shape, self.images.dtype
        if dtype != np.uint8 or len(shape) != 5 or shape[2] not in (1, 3) or 0 in shape:
            raise ValueError(
                f"images must be uint8 (classes, per_class, 1 or 3, H, W), none empty, got {dtype} {shape}"
            )
        if len(self.class_names) != shape[0]:
            raise ValueError(f"{shape[0]} classes of images have {len(self.class_names)} names")

    def thin(self, max_classes: int, per_class: int) -> "SampleGrid":
        """Keep at most `max_classes` classes, evenly spaced, and their first `per_class` images."""
        num_classes = len(self.class_names)
        kept = [int(position) for position in np.linspace(0, num_classes - 1, min(max_classes, num_classes))]
        return SampleGrid(self.images[kept, :per_class], [self.class_names[i] for i in kept], self.caption)


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
    """

    name: str
    images: int | None
    labelled: int
    pseudo_labelled: int
    precision: float | None = None
    recall: float | None = None
    stage1_accuracy: float | None = None
    stage3_accuracy: float | None = None

    @property
    def change(self) -> float | None:
        """Accuracy that the class gained from stage 1 to stage 3; None unless both are known."""
        if not (is_known(self.stage1_accuracy) and is_known(self.stage3_accuracy)):
            return None
        return self.stage3_accuracy - self.stage1_accuracy


@dataclass(frozen=True)
class StepRecord:
    """One step of the run.

    Attributes:
        title: what the step does.
        address: where its artifact lies under the artifact root, "step/fingerprint".
        seconds: how long making it took, whenever that was; None if not recorded.
        summary: computed or reused, and what came out.
    """

    title: str
    address: str
    seconds: float | None
    summary: str


@dataclass(frozen=True)
class LookAlike:
    """A held-out image and a training image that look the same.

    Attributes:
        held_out: key of the one.
        training: key of the other.
        bits: by how many of 255 bits their perceptual hashes differ; None if all pixels are equal.
    """

    held_out: str
    training: str
    bits: int | None


@dataclass(frozen=True, eq=False)
class Overlap:
    """Held-out images that are among the training images, or look like one of them.

    Attributes:
        findings: how many, in sentences.
        pairs: the first pairs, most alike first.
        listing: where all of them are listed.
        pictures: some of the pairs, held-out images in the first row and training images in the second; None if they
            cannot be read.
    """

    findings: str
    pairs: Sequence[LookAlike]
    listing: str
    pictures: SampleGrid | None = None


@dataclass(frozen=True)
class ClassifiedImage:
    """A held-out image and what both classifiers see in it.

    Attributes:
        key: of the image.
        true: name of its class.
        stage1: name of the class that stage 1 predicts.
        stage3: name of the class that stage 3 predicts.
        confidence: of stage 3.
    """

    key: str
    true: str
    stage1: str
    stage3: str
    confidence: float


@dataclass(frozen=True, eq=False)
class ImageList:
    """Some held-out images that have something in common.

    Attributes:
        title: what they have in common.
        total: number of all such images.
        images: the first of them.
        pictures: of these images, one row; None if they cannot be read.
    """

    title: str
    total: int
    images: Sequence[ClassifiedImage]
    pictures: SampleGrid | None = None


@dataclass(frozen=True)
class LeftOut:
    """Something that a step could not use.

    Attributes:
        step: the step's title.
        where: the shard or file.
        image: its key; empty where a whole file or a part of it was lost.
        reason: what was wrong.
        images: images that are lost with it, as far as is known.
    """

    step: str
    where: str
    image: str
    reason: str
    images: int


@dataclass(frozen=True, eq=False)
class Report:
    """All of a run report.

    Attributes:
        title: names the run.
        created: ISO 8601 time, UTC.
        headline: the few numbers that matter most.
        metrics: all numbers.
        curves: one a training.
        grid: pseudo images; None if the run made none.
        reliability: of pseudo-labels on unlabelled images; empty where no true label is known.
        classes: one audit a class.
        image_lists: held-out images that stage 3 changed or mistakes.
        overlap: held-out images that look like training images; None if there are none.
        steps: in the order in which they depend on each other.
        left_out: all that steps could not use.
        notes: warnings and limits that the reader has to know.
        settings_yaml: the resolved settings.
    """

    title: str
    created: str
    headline: Sequence[Figure] = ()
    metrics: Sequence[Metric] = ()
    curves: Sequence[Curve] = ()
    grid: SampleGrid | None = None
    reliability: "Sequence[ReliabilityBin]" = ()
    classes: Sequence[ClassAudit] = ()
    image_lists: Sequence[ImageList] = ()
    overlap: Overlap | None = None
    steps: Sequence[StepRecord] = ()
    left_out: Sequence[LeftOut] = ()
    notes: Sequence[str] = ()
    settings_yaml: str = ""


def is_known(value: float | None) -> TypeGuard[float]:
    """Say whether `value` is a number that can be ordered and drawn."""
    return value is not None and math.isfinite(value)


def worst_first(classes: Sequence[ClassAudit]) -> list[ClassAudit]:
    """Sort by pseudo-label recall, lowest first; classes of unknown recall follow in their own order."""
    return sorted(classes, key=lambda audit: audit.recall if is_known(audit.recall) else math.inf)


def most_changed(classes: Sequence[ClassAudit], limit: int) -> list[ClassAudit]:
    """Return the classes of highest and of lowest gain in accuracy, at most `limit`, highest first."""
    known = [(change, audit) for audit in classes if (change := audit.change) is not None]
    ranked = [audit for _, audit in sorted(known, key=lambda pair: -pair[0])]
    if len(ranked) <= limit:
        return ranked
    return ranked[: limit - limit // 2] + ranked[len(ranked) - limit // 2 :]
