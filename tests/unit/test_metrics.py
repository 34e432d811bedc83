"""Metrics against closed forms."""

import itertools

import pytest
import torch

from dpt_ray.core.metrics.classification import accuracy
from dpt_ray.core.metrics.frechet import GaussianMoments, frechet_distance


def make_moments(mean: torch.Tensor, covariance: torch.Tensor, count: int = 1000) -> GaussianMoments:
    moments = GaussianMoments(len(mean))
    moments.count, moments.mean, moments.scatter = count, mean.double(), covariance.double() * (count - 1)
    return moments


def seen(features: torch.Tensor) -> GaussianMoments:
    moments = GaussianMoments(features.shape[1])
    moments.update(features)
    return moments


def random_features(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_frechet_distance_of_gaussians_that_share_axes():
    # With commuting covariances the distance is |m1 - m2|^2 + sum (s1 - s2)^2.
    rotation, _ = torch.linalg.qr(random_features(5, 5))
    s1, s2 = torch.tensor([1.0, 2.0, 3.0, 0.0, 5.0]).double(), torch.tensor([2.0, 2.0, 1.0, 1.0, 0.0]).double()
    m1, m2 = random_features(2, 5, seed=1)
    a = make_moments(m1, rotation @ torch.diag(s1**2) @ rotation.T)
    b = make_moments(m2, rotation @ torch.diag(s2**2) @ rotation.T)
    expected = (m1 - m2).square().sum() + (s1 - s2).square().sum()
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(expected.item(), rel=1e-6)


def test_frechet_distance_of_correlated_gaussians_in_two_dimensions():
    # For 2x2 matrices tr (AB)^(1/2) = sqrt(tr AB + 2 sqrt(det AB)).
    A, B = torch.tensor([[2.0, 0.7], [0.7, 1.0]]).double(), torch.tensor([[1.0, -0.4], [-0.4, 3.0]]).double()
    AB = A @ B
    expected = A.trace() + B.trace() - 2 * (AB.trace() + 2 * torch.linalg.det(AB).sqrt()).sqrt()
    zero = torch.zeros(2)
    assert frechet_distance(make_moments(zero, A), make_moments(zero, B)) == pytest.approx(expected.item(), rel=1e-9)


def test_frechet_distance_with_fewer_images_than_features():
    features = random_features(20, 64)
    other = seen(random_features(30, 64, seed=1))
    assert frechet_distance(seen(features), seen(features)) == pytest.approx(0, abs=1e-4)
    # A shift of all features by s adds 64 s^2 and leaves the covariance part.
    base = frechet_distance(seen(features), other)
    shift = features.mean(0) - other.mean
    moved = frechet_distance(seen(features - shift), other)
    assert base - moved == pytest.approx(shift.square().sum().item(), rel=1e-6)


def test_moments_equal_numpy_style_formulas():
    features = random_features(50, 4) * 3 + 7
    moments = seen(features.float())
    torch.testing.assert_close(moments.mean, features.mean(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(moments.covariance(), torch.cov(features.T), rtol=1e-5, atol=1e-5)
    assert moments.covariance().dtype == torch.float64


def test_merging_parts_in_any_order_equals_one_pass():
    features = random_features(100, 6) + 1e4  # a large mean, where raw second moments lose digits
    whole = seen(features)
    for bounds in ([0, 1, 40, 100], [0, 99, 100], [0, 0, 50, 100]):
        parts = [seen(features[i:j]) for i, j in itertools.pairwise(bounds)]
        for order in (parts, parts[::-1]):
            merged = GaussianMoments(6)
            for part in order:
                merged.merge(part)
            assert merged.count == 100
            torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-14, atol=0)
            torch.testing.assert_close(merged.covariance(), whole.covariance(), rtol=1e-9, atol=1e-9)


def test_moments_refuse_what_has_no_distance():
    with pytest.raises(ValueError, match="not finite"):
        seen(torch.tensor([[1.0, float("nan")]]))
    with pytest.raises(ValueError, match="shape"):
        GaussianMoments(3).update(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="at least 2"):
        seen(torch.zeros(1, 3)).covariance()
    with pytest.raises(ValueError, match="cannot be combined"):
        frechet_distance(seen(torch.zeros(2, 3)), seen(torch.zeros(2, 4)))


def test_classification_refuses_bad_input():
    with pytest.raises(ValueError, match="one length"):
        accuracy(torch.tensor([1, 2]), torch.tensor([1]))
    with pytest.raises(ValueError, match="no predictions"):
        accuracy(torch.tensor([]), torch.tensor([]))
