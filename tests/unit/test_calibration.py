"""Calibration in closed form."""

import pytest
import torch

from dpt_ray.core.metrics.calibration import (
    ReliabilityBin,
    expected_calibration_error,
    mean_confidence,
    reliability,
)


def test_bins_and_error_of_hand_made_confidences():
    confidence = torch.tensor([0.1, 0.6, 0.7, 0.95, 1.0])
    bins = reliability(confidence, torch.tensor([True, False, True, True, True]), bins=2)
    assert bins == [
        ReliabilityBin(1, pytest.approx(0.1), 1.0),
        ReliabilityBin(4, pytest.approx((0.6 + 0.7 + 0.95 + 1.0) / 4), 0.75),
    ]
    assert mean_confidence(bins) == pytest.approx(confidence.double().mean().item())
    assert expected_calibration_error(bins) == pytest.approx((0.9 + 4 * abs(0.8125 - 0.75)) / 5)


def test_confident_and_right_is_calibrated_and_confident_and_wrong_is_not():
    sure = torch.ones(10)
    assert expected_calibration_error(reliability(sure, torch.ones(10, dtype=torch.bool))) == 0
    assert expected_calibration_error(reliability(sure, torch.zeros(10, dtype=torch.bool))) == 1


def test_edges_belong_to_the_lower_bin_and_zero_to_the_first():
    bins = reliability(torch.tensor([0.0, 0.5, 0.5001]), torch.tensor([False, True, True]), bins=2)
    assert [bin.images for bin in bins] == [2, 1]


def test_labels_drawn_with_their_confidence_are_calibrated():
    random = torch.Generator().manual_seed(0)
    confidence = torch.rand(50_000, generator=random)
    correct = torch.rand(50_000, generator=random) < confidence
    assert expected_calibration_error(reliability(confidence, correct)) < 0.02


def test_no_image_is_refused():
    with pytest.raises(ValueError, match="at least one image"):
        reliability(torch.zeros(0), torch.zeros(0, dtype=torch.bool))
