"""Compares the heads of a probe on the embedded digits, by the number of labels and by who chooses the images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

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
    (train, labels), (test, test_labels) = (_read("train"), _read("test"))
    return _Digits(_features(kind, train), labels, _features(kind, test), test_labels)


def _features(kind: str, images: Tensor) -> Tensor:
    return normalise_rows(_encode(images) if kind == "encoder" else images.flatten(1).float())


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


def accuracies_table(rows: Sequence[FewLabelsRow], on: Literal["unlabelled", "test"]) -> str:
    """Return accuracies as Markdown, with the gain of the last head over the first, paired by seed.

    Args:
        rows: result of `compare_few_labels`.
        on: unlabelled training images or held-out ones.
    """
    heads = list(rows[0].test)
    gain = f"{heads[-1]} over {heads[0]}, points"
    table: list[tuple[str, ...]] = [("features", "labelled images", "labels a class", "classes", *heads, gain)]
    for (features, choice, count), cell in _cells(rows).items():
        values = {head: [getattr(row, on)[head] for row in cell] for head in heads}
        scores = [_score(values[head]) for head in heads]
        classes = f"{np.mean([row.classes for row in cell]):.1f}"
        table.append((features, choice, str(count), classes, *scores, _interval(values[heads[0]], values[heads[-1]])))
    return markdown_table(table)


def confidence_table(rows: Sequence[FewLabelsRow]) -> str:
    """Return mean confidence less accuracy on held-out images as Markdown, in points: above 0, a head is too sure."""
    heads = list(rows[0].test)
    table: list[tuple[str, ...]] = [("features", "labelled images", "labels a class", *heads)]
    for (features, choice, count), cell in _cells(rows).items():
        gaps = [float(np.mean([row.confidence[head] - row.test[head] for row in cell])) for head in heads]
        table.append((features, choice, str(count), *(f"{100 * gap:+.1f}" for gap in gaps)))
    return markdown_table(table)


def _cells(rows: Sequence[FewLabelsRow]) -> dict[tuple[str, str, int], list[FewLabelsRow]]:
    found: dict[tuple[str, str, int], list[FewLabelsRow]] = {}
    for row in rows:
        found.setdefault((row.features, row.choice, row.per_class), []).append(row)
    return found


def choices_table(rows: Sequence[FewLabelsRow], before: str) -> str:
    """Return the gain of every choice of images over `before` on held-out images, as Markdown, paired by seed."""
    heads = list(rows[0].test)
    table: list[tuple[str, ...]] = [("features", "labelled images", "labels a class", *heads)]
    cells = _cells(rows)
    for (features, choice, count), cell in cells.items():
        known = cells.get((features, before, count))
        if choice != before and known is not None:
            gains = [_interval([row.test[head] for row in known], [row.test[head] for row in cell]) for head in heads]
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
