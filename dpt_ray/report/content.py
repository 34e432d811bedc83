"""What a run report says, as plain values: no files, no pictures, no HTML.

Shares and accuracies lie in [0, 1]. None stands for "not known" (a class whose true labels the user
does not have); NaN stands for "computed, and not a number".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dpt_ray.report.class_content import ClassAudit, Confusion
from dpt_ray.report.image_content import ImageList, Neighbours, Overlap, SampleGrid

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
        interval: bounds of its 95 % confidence interval; None if it has none.
        note: what it was measured in, in a few words, for tables without the meaning.
    """

    id: str
    name: str
    value: float
    unit: str
    meaning: str
    interval: tuple[float, float] | None = None
    note: str = ""


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


@dataclass(frozen=True)
class StageFigure:
    """A figure of both classifiers, ready to print.

    Attributes:
        name: what it is.
        stage1: of the stage-1 classifier.
        stage3: of the retrained classifier.
        change: from the first to the second; empty where that says nothing.
    """

    name: str
    stage1: str
    stage3: str
    change: str = ""


@dataclass(frozen=True)
class Reliability:
    """How the confidence of predictions compares with their accuracy.

    Attributes:
        title: which predictions.
        bins: of confidence, at least one.
    """

    title: str
    bins: "Sequence[ReliabilityBin]"


@dataclass(frozen=True)
class StepRecord:
    """One step of the run.

    Attributes:
        title: what the step does.
        address: where its artifact lies under the artifact root, "step/fingerprint".
        seconds: how long making it took, whenever that was; None if not recorded.
        summary: computed or reused, and what came out.
        images: images that it processed, each as often as it was; None if it counts none.
        bytes: size of its files; None if not recorded.
        parents: addresses of the artifacts that it reads.
        cost: of making it, in the report's currency; None if it is not known or nothing has a price.
    """

    title: str
    address: str
    seconds: float | None
    summary: str
    images: int | None = None
    bytes: int | None = None
    parents: Sequence[str] = ()
    cost: float | None = None

    @property
    def images_per_second(self) -> float | None:
        """Mean throughput; None if the images or the time are not known."""
        return self.images / self.seconds if self.images is not None and self.seconds else None


@dataclass(frozen=True)
class PublishedFigure:
    """A figure of this run beside the paper's.

    Attributes:
        name: what it is.
        ours: of this run.
        published: of the paper.
        source: where the paper's figure stands.
        is_share: whether both are in [0, 1]; distances are not.
    """

    name: str
    ours: float
    published: float
    source: str
    is_share: bool = True


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
        results: figures of both classifiers, side by side.
        verdict: whether the classifiers can be told apart, in a sentence; empty if that is not known.
        metrics: all numbers.
        curves: one a training.
        real: held-out images of the classes that `grid` shows, in its order; None if none can be read.
        grid: pseudo images; None if the run made none.
        neighbours: training images nearest to pseudo images; None without features.
        reliability: of pseudo-labels on unlabelled images, and of the classifiers on held-out images.
        classes: one audit a class.
        confusions: of the classifiers on held-out images, the most important first.
        image_lists: held-out images that stage 3 changed or mistakes.
        overlap: held-out images that look like training images; None if there are none.
        published: figures beside those of the paper; empty if the run corresponds to no row of its tables.
        published_note: in which settings the run differs from the paper's; empty if in none.
        steps: in the order in which they depend on each other.
        currency: of the steps' costs; empty if no step has one.
        left_out: all that steps could not use.
        notes: warnings and limits that the reader has to know.
        provenance: name and value of all that made the run: command, commit, versions.
        settings_yaml: the resolved settings.
    """

    title: str
    created: str
    headline: Sequence[Figure] = ()
    results: Sequence[StageFigure] = ()
    verdict: str = ""
    metrics: Sequence[Metric] = ()
    curves: Sequence[Curve] = ()
    real: SampleGrid | None = None
    grid: SampleGrid | None = None
    neighbours: Neighbours | None = None
    reliability: Sequence[Reliability] = ()
    classes: Sequence[ClassAudit] = ()
    confusions: Sequence[Confusion] = ()
    image_lists: Sequence[ImageList] = ()
    overlap: Overlap | None = None
    published: Sequence[PublishedFigure] = ()
    published_note: str = ""
    steps: Sequence[StepRecord] = ()
    currency: str = ""
    left_out: Sequence[LeftOut] = ()
    notes: Sequence[str] = ()
    provenance: Sequence[tuple[str, str]] = ()
    settings_yaml: str = ""
