"""Results that spoil what follows are told of; results of a good run are not."""

import numpy as np
import pytest
import torch

from dpt_ray.core.metrics.uncertainty import PairedChange, compare_paired
from dpt_ray.pipeline.execution.result_warnings import (
    calibration,
    collapse,
    disagreement,
    empty_classes,
    image_spread,
    low_spread,
    stage3_below,
)

NAMES = ["ant", "bee", "cat", "dog"]


@pytest.mark.parametrize("predicted", [[97, 1, 1, 1], [100, 0, 0, 0], [1, 99], [60, 40, 0, 0, 0], [0, 0, 1]])
def test_predictions_of_a_few_classes_have_collapsed(predicted):
    assert "stage 1 has collapsed" in collapse(predicted)


@pytest.mark.parametrize("predicted", [[25, 25, 25, 25], [70, 10, 10, 10], [5, 95], [50, 30, 20, 0], [0, 0]])
def test_uneven_classes_have_not(predicted):
    assert collapse(predicted) is None


def test_collapse_counts_equal_classes_as_themselves():
    assert "as uneven as 2.0 of 10 classes (the most frequent one has 50%)" in collapse([5, 5, *[0] * 8])


def test_classes_without_an_image_are_named():
    assert empty_classes([1, 2, 3, 4], NAMES) is None
    assert "of 2 of 4 classes (bee, dog)" in empty_classes([3, 0, 4, 0], NAMES)
    many = empty_classes([1, *[0] * 99], [str(number) for number in range(100)])
    assert "of 99 of 100 classes (1, 2, 3, 4, 5, ...)" in many


def test_confidence_is_compared_with_accuracy_of_enough_images():
    assert calibration(0.9, 0.8, 1000) is None
    assert calibration(0.99, 0.2, 9) is None
    assert "mean confidence of 95% on the 40 labelled images and gets 60% of them right" in calibration(0.95, 0.6, 40)
    assert "more stage1.images" in calibration(0.3, 0.9, 40)


def test_spread_is_within_classes():
    images = np.zeros((6, 1, 2, 2), np.uint8)
    labels = np.array([0, 1, 0, 1, 2, 2])
    images[labels == 1] = 200
    assert image_spread(images, labels) == 0
    images[2] = 20
    assert image_spread(images, labels) == pytest.approx(10 / 3)
    assert image_spread(images[:2], np.array([0, 1])) is None


def test_a_generator_of_one_image_is_told_of():
    assert "differ by 5% of what training images" in low_spread(3.0, 60.0)
    assert low_spread(30.0, 60.0) is None
    assert low_spread(None, 60.0) is None
    assert low_spread(3.0, 0.0) is None


def test_classes_that_stage_1_does_not_see_are_named_the_worst_first():
    requested = np.full(4, 10)
    assert disagreement(requested, requested, NAMES) is None
    text = disagreement(requested, np.array([10, 0, 4, 10]), NAMES)
    assert "in 60% of the pseudo images, and in less than half of those of 2 of 4 classes (bee (0%), cat (40%))" in text


def test_stage_3_below_stage_1_counts_beyond_noise():
    def change(mended: int, broken: int) -> PairedChange:
        right, wrong = [0] * (300 - mended - broken), [1]
        first = torch.tensor(right + wrong * mended + [0] * broken)
        second = torch.tensor(right + [0] * mended + wrong * broken)
        return compare_paired(torch.zeros_like(first), first, second)

    assert stage3_below(0.90, 0.89, change(5, 8)) is None
    assert stage3_below(0.8, 0.9, change(40, 10)) is None
    assert stage3_below(0.8, 0.7, None) is None
    text = stage3_below(0.90, 0.85, change(5, 20))
    assert text.startswith("stage 3 (85.0%) is below stage 1 (90.0%; McNemar's test: p = 0.0041): pseudo images did")
