"""Compares the heads of a probe on the embedded digits, by the number of labels and by who chooses the images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpt_ray.config.schema import ProbeConfig
from dpt_ray.core.models.efficientnet_lite import LITE
from dpt_ray.core.probe.coverage import coverage_points, farthest_images, typical_images
from dpt_ray.core.probe.normalisation import normalise_rows
from dpt_ray.core.probe.propagation import UNKNOWN
from dpt_ray.data.importing.digits import Split, digit_numbers, read_digits
from dpt_ray.data.importing.import_plan import RawImage, RowRange
from dpt_ray.data.storage.json_records import Record
from dpt_ray.experiments.statistics import mean_and_deviation, paired_interval
from dpt_ray.experiments.study.choices import HEADS, ONE_OF_EACH
from dpt_ray.networks.pretrained.encoders import open_encoder
from dpt_ray.pipeline.execution.fit_heads import fit_on_features
from dpt_ray.tables import markdown_table

SIDE = 96
"""Height and width in pixels to which digits of 8 x 8 are enlarged for the encoder, which learned from photographs."""
_CLASSES = 10
_BATCH = 64


@dataclass(frozen=True)
class FewLabelsRow(Record):
    """Accuracies with one choice of labelled images.

    Attributes:
        features: "encoder" or "pixels".
        choice: a key of `CHOICES`.
        per_class: labelled images for each class; ten times as many in all.
        seed: of the choice.
        classes: number of classes among the labelled images.
        unlabelled: head -> accuracy on unlabelled training images.
        test: head -> accuracy on held-out images.
        confidence: head -> mean confidence on held-out images.
    """

    features: str
    choice: str
    per_class: int
    seed: int
    classes: int
    unlabelled: dict[str, float]
    test: dict[str, float]
    confidence: dict[str, float]


@dataclass(frozen=True)
class _Digits:
    """Normalised features and true labels of training and held-out images."""

    train: Tensor
    labels: np.ndarray
    test: Tensor
    test_labels: np.ndarray


def compare_few_labels(
    *,
    features: Sequence[str],
    choices: Sequence[str],
    heads: Sequence[str],
    per_class: Sequence[int],
    seeds: Sequence[int],
    say: Callable[[str], None],
) -> list[FewLabelsRow]:
    """Fit the heads for all combinations. Features are computed once, and heads are fitted in this process.

    Raises:
        UserError: the weights of the encoder are not installed.
    """
    rows = []
    for kind in features:
        digits = _digits(kind)
        say(f"features: {kind}")
        for choice in choices:
            for count in per_class:
                rows += [_measure(digits, kind, choice, count, seed, heads) for seed in seeds]
                say(f"{kind}, {choice}, {count} a class")
    return rows


def _measure(digits: _Digits, kind: str, choice: str, per_class: int, seed: int, heads: Sequence[str]) -> FewLabelsRow:
    chosen = _choose(digits, choice, per_class, seed)
    given = np.full(len(digits.labels), UNKNOWN)
    given[chosen] = digits.labels[chosen]
    rest = given == UNKNOWN
    unlabelled, test, confidence = {}, {}, {}
    for head in heads:
        fitted = fit_on_features(digits.train, given, _CLASSES, ProbeConfig(head=HEADS[head]))
        logits = [fitted.head(features) / fitted.temperature for features in (digits.train, digits.test)]
        train, held_out = (values.softmax(1).detach().numpy() for values in logits)
        train = train if fitted.probabilities is None else fitted.probabilities
        unlabelled[head] = float((train.argmax(1) == digits.labels)[rest].mean())
        test[head] = float((held_out.argmax(1) == digits.test_labels).mean())
        confidence[head] = float(held_out.max(1).mean())
    classes = len(np.unique(digits.labels[chosen]))
    return FewLabelsRow(kind, choice, per_class, seed, classes, unlabelled, test, confidence)


def _choose(digits: _Digits, choice: str, per_class: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    count = per_class * _CLASSES
    if choice == ONE_OF_EACH:
        members = [np.flatnonzero(digits.labels == label) for label in range(_CLASSES)]
        return np.concatenate([random.permutation(member)[:per_class] for member in members])
    if choice == "any images":
        return random.permutation(len(digits.labels))[:count]
    choose = typical_images if choice == "typical images" else farthest_images
    return choose(coverage_points(lambda: [digits.train]), count, (), seed)


def _digits(kind: str) -> _Digits:
    found = []
    for split in ("train", "test"):
        images, labels = _read(split)
        found += [normalise_rows(_encode(images) if kind == "encoder" else images.flatten(1).float()), labels]
    train, labels, test, test_labels = found
    return _Digits(train, labels, test, test_labels)


def _read(split: Split) -> tuple[Tensor, np.ndarray]:
    """Return the digits of a split, uint8 (N, 1, 8, 8), and their classes."""
    recipe = RowRange(len(digit_numbers(split)), 0, len(digit_numbers(split))).to_json()
    images = list(_images(read_digits({"split": split}, recipe)))
    return torch.from_numpy(np.stack([image.data for image in images])), np.array([image.label for image in images])


def _images(found: Iterator[object]) -> Iterator[RawImage]:
    return (image for image in found if isinstance(image, RawImage))


def _encode(images: Tensor) -> Tensor:
    encoder = open_encoder(LITE, crop=SIDE, blocks=1)
    parts = []
    for batch in images.split(_BATCH):
        large = torch.nn.functional.interpolate(batch.float(), (SIDE, SIDE), mode="bicubic").round().clamp(0, 255)
        parts.append(encoder(large.byte().expand(-1, 3, -1, -1)))
    return torch.cat(parts)


def few_labels_tables(rows: Sequence[FewLabelsRow]) -> str:
    """Return accuracies on held-out images as Markdown: heads by labels, then choices of images."""
    heads = list(rows[0].test)
    table: list[tuple[str, ...]] = [
        ("features", "labelled images", "labels a class", "classes", *(f"{head}, held-out" for head in heads),
         *(f"{head}, unlabelled" for head in heads), "last against first head, points")
    ]  # fmt: skip
    for features, choice, count in dict.fromkeys((row.features, row.choice, row.per_class) for row in rows):
        cell = [row for row in rows if (row.features, row.choice, row.per_class) == (features, choice, count)]
        scores = [_score([values[head] for values in kind]) for kind in
                  ([row.test for row in cell], [row.unlabelled for row in cell]) for head in heads]  # fmt: skip
        gain = _interval([row.test[heads[0]] for row in cell], [row.test[heads[-1]] for row in cell])
        classes = f"{np.mean([row.classes for row in cell]):.1f}"
        table.append((features, choice, str(count), classes, *scores, gain))
    return markdown_table(table)


def choices_table(rows: Sequence[FewLabelsRow], before: str) -> str:
    """Return the gain of every choice of images over `before` on held-out images, as Markdown, paired by seed."""
    heads = list(rows[0].test)
    table: list[tuple[str, ...]] = [("features", "labelled images", "labels a class", *heads)]
    for features, choice, count in dict.fromkeys((row.features, row.choice, row.per_class) for row in rows):
        sides = [[row for row in rows if (row.features, row.choice, row.per_class) == (features, name, count)]
                 for name in (before, choice)]  # fmt: skip
        if choice != before and sides[0]:
            gains = [_interval([row.test[head] for row in sides[0]], [row.test[head] for row in sides[1]])
                     for head in heads]  # fmt: skip
            table.append((features, choice, str(count), *gains))
    return markdown_table(table)


def _score(values: Sequence[float]) -> str:
    mean, deviation = mean_and_deviation(values)
    return f"{mean:.1%} ± {deviation:.1%}"


def _interval(before: Sequence[float], after: Sequence[float]) -> str:
    if len(before) < 2:
        return ""
    mean, low, high = (100 * value for value in paired_interval(before, after))
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
