"""Metrics of pseudo images against direct computations in NumPy, closed forms and simulation."""

import itertools
import math

import numpy as np
import pytest
import torch
from direct_support import direct_support
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu

from dpt_ray.core.metrics import neighbours
from dpt_ray.core.metrics.feature_sample import FeatureSample, draw_priorities
from dpt_ray.core.metrics.frechet import GaussianMoments, frechet_distance
from dpt_ray.core.metrics.inception_score import ScoreSums
from dpt_ray.core.metrics.kernel_distance import kernel_distance, unbiased_discrepancy
from dpt_ray.core.metrics.memorisation import compare_distances
from dpt_ray.core.metrics.neighbours import compare_supports, nearest_distances, neighbour_distances
from dpt_ray.core.metrics.set_statistics import SetStatistics, decode_statistics, encode_statistics


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=20, deadline=None)
@given(st.integers(6, 60), st.integers(6, 60), st.integers(1, 8), st.floats(0, 3), st.integers(1, 40), st.data())
def test_supports_are_those_of_all_distances_whatever_the_blocks(real_rows, pseudo_rows, size, shift, block, data):
    seed = data.draw(st.integers(0, 1000))
    real, pseudo = normal(real_rows, size, seed=seed), normal(pseudo_rows, size, seed=seed + 1) + shift
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_BLOCK", block)
        found = compare_supports(real, pseudo)
    expected = direct_support(real.double().numpy(), pseudo.double().numpy())
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(expected, abs=1e-12)


def test_supports_of_one_set_and_of_sets_far_apart():
    real = normal(200, 4)
    same = compare_supports(real, real)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    apart = compare_supports(real, real + 100)
    assert (apart.precision, apart.recall, apart.density, apart.coverage) == (0, 0, 0, 0)


def test_a_generator_of_few_modes_is_precise_and_lacks_recall():
    real = torch.cat([normal(200, 2), normal(200, 2, seed=1) + 20])
    found = compare_supports(real, normal(400, 2, seed=2))
    assert found.precision > 0.9
    assert found.recall < 0.55
    assert found.coverage < 0.55


@pytest.mark.parametrize("count", [200, 1200])  # one block, and two
def test_neighbours_of_features_with_a_large_mean_keep_their_digits(count):
    points, others = normal(count, 3).double() + 1e5, normal(7, 3, seed=1).double() + 1e5
    assert neighbour_distances(points - 1e5, (1, 4)).numpy() == pytest.approx(
        np.sort(cdist(points - 1e5, points - 1e5), axis=1)[:, [1, 4]], rel=1e-9
    )
    assert nearest_distances(others, points).numpy() == pytest.approx(cdist(others, points).min(1), rel=1e-6)
    assert nearest_distances(points[:3], points).tolist() == pytest.approx([0, 0, 0], abs=1e-6)


def test_supports_refuse_what_has_none():
    with pytest.raises(ValueError, match="at least 6"):
        compare_supports(normal(5, 2), normal(9, 2))
    with pytest.raises(ValueError, match="not finite"):
        compare_supports(normal(9, 2) * math.nan, normal(9, 2))
    with pytest.raises(ValueError, match="cannot be compared"):
        compare_supports(normal(9, 2), normal(9, 3))


def test_a_discrepancy_is_the_sum_over_pairs():
    x, y = normal(5, 3).double(), normal(4, 3, seed=1).double() + 1

    def kernel(a: torch.Tensor, b: torch.Tensor) -> float:
        return (float(a @ b) / 3 + 1) ** 3

    within = [np.mean([kernel(a, b) for a, b in itertools.permutations(rows, 2)]) for rows in (x, y)]
    across = np.mean([kernel(a, b) for a in x for b in y])
    assert unbiased_discrepancy(x, y) == pytest.approx(sum(within) - 2 * across)
    found = kernel_distance(x[:4], y, subsets=3, subset_size=10)  # all images, in each subset
    assert found.mean == pytest.approx(unbiased_discrepancy(x[:4], y))
    assert found.deviation == pytest.approx(0, abs=1e-9)


def test_a_kernel_distance_is_unbiased():
    """Over independent draws of equal distributions its mean is 0; with the diagonals it would be above 0.5."""
    values = torch.tensor([unbiased_discrepancy(*normal(2, 20, 3, seed=seed).double()) for seed in range(400)])
    assert values.mean().abs() < 4 * values.std() / math.sqrt(len(values)) < 0.1
    halves = normal(2000, 8, seed=5)
    same, other = kernel_distance(halves[:1000], halves[1000:], 20, 200), kernel_distance(halves, halves + 1, 20, 200)
    assert abs(same.mean) < 0.1 * other.mean


def test_an_inception_score_is_that_of_all_probabilities():
    logits = normal(300, 7).double() * 2
    splits = torch.arange(300) % 3
    whole, merged = ScoreSums(7, 3), ScoreSums(7, 3)
    whole.update(logits, splits)
    for part in torch.arange(300).split(70):
        sums = ScoreSums(7, 3)
        sums.update(logits[part], splits[part])
        merged.merge(sums)
    p = logits.softmax(1).numpy()
    scores = [
        np.exp(np.mean([np.sum(row * np.log(row / p[splits == s].mean(0))) for row in p[splits == s]]))
        for s in range(3)
    ]
    assert whole.score().mean == pytest.approx(np.mean(scores), rel=1e-9)
    assert whole.score().deviation == pytest.approx(np.std(scores), rel=1e-9)
    assert merged.score().mean == pytest.approx(whole.score().mean, rel=1e-12)


def test_the_largest_inception_score_is_the_number_of_classes():
    sums = ScoreSums(5, 1)
    sums.update(torch.eye(5).repeat(4, 1) * 1000, torch.zeros(20, dtype=torch.int64))
    assert sums.score().mean == pytest.approx(5)
    alike = ScoreSums(5, 1)
    alike.update(torch.zeros(20, 5), torch.zeros(20, dtype=torch.int64))
    assert alike.score().mean == pytest.approx(1)


def test_copies_are_closer_than_held_out_images():
    train, held_out, fresh = normal(400, 6), normal(200, 6, seed=1), normal(300, 6, seed=2)
    copies = torch.cat([train[:150] + 1e-3 * normal(150, 6, seed=3), fresh[:150]])
    real = nearest_distances(held_out, train)
    honest, copied = (compare_distances(nearest_distances(rows, train), real) for rows in (fresh, copies))
    assert honest.interval.low < 0.5 < honest.interval.high
    assert honest.close_share < 0.04
    assert honest.median_ratio == pytest.approx(1, abs=0.1)
    assert copied.interval.low > 0.6
    assert copied.close_share >= 0.5
    assert copied.median_ratio < 0.9


@given(st.lists(st.integers(0, 9), min_size=2, max_size=30), st.lists(st.integers(0, 9), min_size=2, max_size=30))
def test_the_probability_to_be_closer_is_that_of_mann_and_whitney(pseudo, held_out):
    found = compare_distances(torch.tensor(pseudo), torch.tensor(held_out))
    expected = mannwhitneyu(held_out, pseudo).statistic / (len(pseudo) * len(held_out))
    assert found.closer_probability == pytest.approx(expected)
    assert found.interval.low <= found.closer_probability <= found.interval.high


def test_its_interval_holds_the_true_value_about_as_often_as_it_says():
    held = 0
    for seed in range(300):
        found = compare_distances(normal(40, seed=seed) - 0.5, normal(60, seed=1000 + seed))
        held += found.interval.low <= 0.638163 <= found.interval.high  # the normal distribution at 0.5 / sqrt(2)
    assert 0.90 < held / 300 < 0.99


@given(st.permutations(range(40)), st.integers(1, 60), st.lists(st.integers(0, 40), max_size=4))
def test_a_sample_does_not_depend_on_the_order_of_images(order, limit, cuts):
    keys = [f"image{number}" for number in range(40)]
    features, priorities = normal(40, 3), draw_priorities(keys, "a test")
    whole, merged = FeatureSample(3, limit), FeatureSample(3, limit)
    whole.update(priorities, features)
    bounds = [0, *sorted(cuts), 40]
    for start, stop in itertools.pairwise(bounds):
        part, rows = FeatureSample(3, limit), list(order[start:stop])
        part.update(priorities[rows], features[rows])
        merged.update(part.priorities, part.features)
    assert len(whole.features) == min(limit, 40)
    torch.testing.assert_close(merged.features, whole.features, rtol=0, atol=0)


def test_priorities_are_spread_evenly():
    values = draw_priorities([str(number) for number in range(5000)], "a test")
    counts = (values * 10).long().bincount(minlength=10)
    assert values.min() >= 0
    assert values.max() < 1
    assert ((counts - 500).abs() < 110).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 90), st.lists(st.integers(0, 90), max_size=5), st.floats(0, 1e4))
def test_merged_statistics_of_any_split_are_those_of_the_whole(images, cuts, shift):
    keys = [f"image{number}" for number in range(images)]
    features, spatial, logits = normal(images, 5) + shift, normal(images, 4, seed=1), normal(images, 6, seed=2)
    whole = SetStatistics(5, limit=20)
    whole.update(keys, features, spatial, logits)
    parts = []
    for start, stop in itertools.pairwise([0, *sorted(min(cut, images) for cut in cuts), images]):
        if start < stop:
            part = SetStatistics(5, limit=20)
            part.update(keys[start:stop], features[start:stop], spatial[start:stop], logits[start:stop])
            parts.append(decode_statistics(encode_statistics(part), 20))
    merged = parts.pop()
    for part in parts:
        merged.merge(part)
    assert merged.images == images
    for found, expected in ((merged.moments, whole.moments), (merged.spatial, whole.spatial)):
        torch.testing.assert_close(found.mean, expected.mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(found.covariance(), expected.covariance(), rtol=1e-9, atol=1e-9)
    assert merged.scores.score().mean == pytest.approx(whole.scores.score().mean, rel=1e-9)
    torch.testing.assert_close(merged.sample.features, whole.sample.features, rtol=0, atol=0)


def test_statistics_of_another_network_and_foreign_files_are_refused():
    one, other = SetStatistics(3, 5), SetStatistics(3, 5)
    one.update(["a", "b"], normal(2, 3))
    other.update(["a", "b"], normal(2, 3), normal(2, 2))
    with pytest.raises(ValueError, match="different networks"):
        one.merge(other)
    for content in (b"", b"no safetensors", encode_statistics(one)[:-9]):
        with pytest.raises(ValueError, match="holds no statistics"):
            decode_statistics(content, 5)


def moments(features: torch.Tensor) -> GaussianMoments:
    found = GaussianMoments(features.shape[1])
    found.update(features)
    return found


def test_a_distance_is_that_of_scipys_square_root():
    a, b = normal(300, 12).double(), normal(300, 12, seed=1).double() @ torch.diag(torch.linspace(0.5, 2, 12).double())
    A, B = np.cov(a.numpy().T), np.cov(b.numpy().T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(A) + np.trace(B) - 2 * np.trace(sqrtm(A @ B)).real
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(float(expected), rel=1e-6)


def test_a_distance_of_rank_deficient_covariances_is_that_within_their_span():
    """Ten images in 200 features span 9 directions; a rotation does not change the distance."""
    small_a, small_b = normal(10, 20).double(), normal(10, 20, seed=1).double() + 0.3
    padding = torch.zeros(10, 180, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(normal(200, 200, seed=2).double())
    found = frechet_distance(
        moments(torch.cat([small_a, padding], 1) @ rotation), moments(torch.cat([small_b, padding], 1) @ rotation)
    )
    # The square root of A B has rank 9 too; its trace is the sum of the singular values of X Y^T / 9.
    X, Y = small_a - small_a.mean(0), small_b - small_b.mean(0)
    root = torch.linalg.svdvals(X @ Y.T / 9).sum()
    expected = (small_a.mean(0) - small_b.mean(0)).square().sum() + (X.square().sum() + Y.square().sum()) / 9 - 2 * root
    assert found == pytest.approx(expected.item(), rel=1e-6)
