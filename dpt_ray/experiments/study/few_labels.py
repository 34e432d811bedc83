"""Compares the heads of a probe by the number of labels and by who chooses the images: on digits, or on any data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from dpt_ray import __version__
from dpt_ray.config.probe_section import ProbeConfig
from dpt_ray.core.probe.coverage import coverage_points, farthest_images, typical_images
from dpt_ray.core.probe.propagation import UNKNOWN
from dpt_ray.data.storage.json_records import Record, optional
from dpt_ray.experiments.study.choices import HEADS, ONE_OF_EACH
from dpt_ray.experiments.study.images_of_each_class import images_of_each_class
from dpt_ray.experiments.study.study_features import StudyFeatures
from dpt_ray.pipeline.execution.fit_heads import SharedParts, fit_on_features, graph_of_features


@dataclass(frozen=True)
class FewLabelsRow(Record):
    """Accuracies with one choice of labelled images.

    Attributes:
        features: name of the features.
        choice: one of `CHOICES`.
        per_class: labelled images for each class; as many times the number of classes in all.
        seed: of the choice.
        classes: number of classes among the labelled images.
        unlabelled: head -> accuracy on unlabelled training images.
        test: head -> accuracy on held-out images.
        confidence: head -> mean confidence on held-out images.
        self_trained: head -> accuracy on held-out images of logistic regression that learnt from all training images
            with the classes that the head gives them; None if it was not fitted.
        version: version of dpt_ray that computed the row; None in rows of versions that did not write it.
    """

    features: str
    choice: str
    per_class: int
    seed: int
    classes: int
    unlabelled: dict[str, float]
    test: dict[str, float]
    confidence: dict[str, float]
    self_trained: dict[str, float] | None = optional()
    version: str | None = optional()


@dataclass
class _Measured:
    """Features of images, and what follows from them alone: it is computed once, for all choices of labels."""

    images: StudyFeatures
    shared: SharedParts = field(default_factory=SharedParts)
    points: Tensor | None = field(default=None, repr=False)

    def parts_for(self, probe: ProbeConfig) -> SharedParts:
        """Return what the heads share, with the graph of the training images if the head needs it."""
        if probe.head == "propagation" and self.shared.graph is None:
            self.shared.graph = graph_of_features(self.images.train, probe.propagation)
        return self.shared

    def coverage(self) -> Tensor:
        """Return the points in which images to label are sought."""
        if self.points is None:
            self.points = coverage_points(lambda: [self.images.train])
        return self.points


def compare_few_labels(
    *,
    features: Mapping[str, Callable[[], StudyFeatures]],
    choices: Sequence[str],
    heads: Sequence[str],
    per_class: Sequence[int],
    seeds: Sequence[int],
    self_training: bool = False,
    keep: Callable[[list[FewLabelsRow]], None] = lambda rows: None,
    known: Sequence[FewLabelsRow] = (),
    say: Callable[[str], None],
) -> list[FewLabelsRow]:
    """Fit the heads for all combinations. Features are computed once, and heads are fitted in this process.

    Args:
        features: name -> computes the features.
        choices: some of `CHOICES`.
        heads: some of `HEADS`.
        per_class: numbers of labelled images for each class.
        seeds: seeds of the choice.
        self_training: also fit logistic regression to the classes that each head gives the training images.
        keep: called with all rows so far after each number of labels.
        known: rows of an interrupted call with the same arguments, which are not computed again.
        say: called with a line of text as rows are done.

    Raises:
        UserError: the features cannot be computed.
    """
    done = {(row.features, row.choice, row.per_class, row.seed): row for row in known}
    cells = [(kind, choice, count) for kind in features for choice in choices for count in per_class]
    rows: list[FewLabelsRow] = []
    measured: dict[str, _Measured] = {}
    for kind, choice, count in cells:
        for seed in seeds:
            row = done.get((kind, choice, count, seed))
            if row is None:
                if kind not in measured:
                    measured[kind] = _Measured(features[kind]())
                row = _measure(measured[kind], (kind, choice, count, seed), heads, self_training)
                say(f"{kind}, {choice}, {count} a class, seed {seed}")
            rows.append(row)
            keep(rows)
    return rows


def _measure(
    measured: _Measured, cell: tuple[str, str, int, int], heads: Sequence[str], self_training: bool
) -> FewLabelsRow:
    images, (_, choice, per_class, seed) = measured.images, cell
    chosen = _choose(measured, choice, per_class, seed)
    given = np.full(len(images.labels), UNKNOWN)
    given[chosen] = images.labels[chosen]
    rest = given == UNKNOWN
    unlabelled, test, confidence, self_trained = {}, {}, {}, {}
    for head in heads:
        probe = ProbeConfig.model_validate(HEADS[head])
        fitted = fit_on_features(images.train, given, images.num_classes, probe, measured.parts_for(probe))
        logits = [fitted.head(features) / fitted.temperature for features in (images.train, images.test)]
        train, held_out = (values.softmax(1).detach().numpy() for values in logits)
        train = train if fitted.probabilities is None else fitted.probabilities
        found = train.argmax(1)
        unlabelled[head] = float((found == images.labels)[rest].mean())
        test[head] = float((held_out.argmax(1) == images.test_labels).mean())
        confidence[head] = float(held_out.max(1).mean())
        if self_training:
            self_trained[head] = _self_trained(images, np.where(rest, found, given))
    classes = len(np.unique(images.labels[chosen]))
    gained = self_trained if self_training else None
    return FewLabelsRow(*cell, classes, unlabelled, test, confidence, gained, __version__)


def _self_trained(images: StudyFeatures, labels: np.ndarray) -> float:
    """Return the accuracy on held-out images of logistic regression that learnt these labels of all training images."""
    fitted = fit_on_features(images.train, labels, images.num_classes, ProbeConfig(), calibrated=False)
    return float((fitted.head(images.test).argmax(1).numpy() == images.test_labels).mean())


def _choose(measured: _Measured, choice: str, per_class: int, seed: int) -> np.ndarray:
    images, random = measured.images, np.random.default_rng(seed)
    count = per_class * images.num_classes
    if choice == ONE_OF_EACH:
        return images_of_each_class(images.labels, per_class, seed)
    if choice == "any images":
        return random.permutation(len(images.labels))[:count]
    choose = typical_images if choice == "typical images" else farthest_images
    return choose(measured.coverage(), count, (), seed)
