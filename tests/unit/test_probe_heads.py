"""Heads that use unlabelled features, against scikit-learn and direct computations."""

import math

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors
from sklearn.semi_supervised import LabelSpreading

from dpt_ray.config.probe_section import ProbeConfig
from dpt_ray.core.probe.heads import MixtureHead
from dpt_ray.core.probe.logistic import fit_logistic, objective_and_gradient
from dpt_ray.core.probe.mixture import Mixture, _expect, _maximise, _Prior, _start, fit_mixture
from dpt_ray.core.probe.neighbour_graph import Neighbours, nearest_neighbours, normalised_graph
from dpt_ray.core.probe.normalisation import normalise_rows
from dpt_ray.core.probe.principal import principal_components
from dpt_ray.core.probe.propagation import (
    UNKNOWN,
    class_probabilities,
    propagate,
    shares_of_classes,
    with_equal_masses,
)
from dpt_ray.core.probe.propagation_temperature import own_labels_temperature
from dpt_ray.pipeline.execution.fit_heads import SharedParts, fit_on_features

CLASSES = 3


def make_clusters(rows: int = 90, width: int = 6, spread: float = 0.4) -> tuple[torch.Tensor, torch.Tensor]:
    """Features around a centre for each class, and the classes."""
    random = torch.Generator().manual_seed(0)
    centres = 2 * torch.randn(CLASSES, width, generator=random)
    labels = torch.arange(rows) % CLASSES
    return centres[labels] + spread * torch.randn(rows, width, generator=random), labels


def few(labels: torch.Tensor, per_class: int = 1) -> torch.Tensor:
    """Keep the first labels of each class."""
    kept = torch.full_like(labels, UNKNOWN)
    kept[: per_class * CLASSES] = labels[: per_class * CLASSES]
    return kept


def test_classes_have_equal_masses_and_their_share_of_the_labels_or_an_equal_one():
    scores = np.array([[4.0, 1, 2, 0], [2, 1, 6, 0]], np.float32)
    np.testing.assert_allclose(with_equal_masses(scores).sum(0), [1, 1, 1, 0])
    labels = np.array([0, 0, 1, UNKNOWN])
    np.testing.assert_allclose(shares_of_classes(labels, 4), [2 / 3, 1 / 3, 0, 0])
    np.testing.assert_allclose(shares_of_classes(labels, 4, equal=True), [1 / 2, 1 / 2, 0, 0])
    assert not shares_of_classes(np.full(3, UNKNOWN), 4).any()


def test_shares_are_multiplied_after_the_power():
    scores = np.array([[0.2, 0.8], [0.0, 0.0], [0.5, 0.5]])
    found = class_probabilities(scores, 0.5, np.array([0.8, 0.2]))
    np.testing.assert_allclose(found, [[0.2, 0.8], [0.8, 0.2], [0.8, 0.2]], rtol=1e-6)  # 0.04 * 0.8 to 0.64 * 0.2
    only = class_probabilities(np.array([[0.0, 1.0]]), 0.5, np.array([1.0, 0.0]))
    np.testing.assert_allclose(only, [[0.5, 0.5]])  # labels reach the image from a class without a share: none is sure


def test_labels_drawn_from_all_images_of_unequal_classes_do_not_drown_the_rare_ones():
    random = np.random.default_rng(0)
    sizes = np.array([320, 160, 80, 40])
    labels = np.repeat(np.arange(4), sizes)
    features = torch.from_numpy(random.normal(size=(4, 6))[labels] + 0.9 * random.normal(size=(600, 6))).float()
    graph = normalised_graph(nearest_neighbours(lambda: [normalise_rows(features)], 600, 10), 1.0)
    given = np.full(600, UNKNOWN)
    chosen = np.concatenate([np.flatnonzero(labels == c)[: n // 20] for c, n in enumerate(sizes)])
    given[chosen] = labels[chosen]
    raw = propagate(graph, given, 4, 0.99)
    shares = shares_of_classes(given, 4)
    np.testing.assert_allclose(shares, sizes / 600, atol=1e-6)
    found = class_probabilities(with_equal_masses(raw), 0.2, shares).argmax(1)
    mass_first = (with_equal_masses(raw) * shares).argmax(1)
    assert (found == labels).mean() > (mass_first == labels).mean() + 0.05
    assert set(found) == {0, 1, 2, 3}


@pytest.mark.parametrize(("block", "keep"), [(90, 2**30), (7, 2**30), (13, 30 * 6 * 4), (1, 1)])
def test_neighbours_are_scikit_learns_however_the_features_are_cut(block, keep):
    features = normalise_rows(make_clusters()[0])
    found = nearest_neighbours(lambda: features.split(block), len(features), 5, keep_bytes=keep)
    theirs = NearestNeighbors(n_neighbors=6).fit(features).kneighbors(features, return_distance=False)[:, 1:]
    assert np.array_equal(np.sort(found.indices), np.sort(theirs))
    assert (found.similarities.diff(dim=1) <= 0).all()
    exact = (features @ features.T).gather(1, found.indices)
    torch.testing.assert_close(found.similarities, exact, atol=1e-6, rtol=0)


def test_few_images_have_fewer_neighbours_and_one_has_none():
    features = normalise_rows(torch.eye(3))
    assert nearest_neighbours(lambda: [features], 3, 10).indices.shape == (3, 2)
    with pytest.raises(ValueError, match="two images"):
        nearest_neighbours(lambda: [features[:1]], 1, 1)
    with pytest.raises(ValueError, match="expected 4 images"):
        nearest_neighbours(lambda: [features], 4, 1)


def test_propagation_is_scikit_learns_label_spreading_and_the_inverse():
    features, labels = make_clusters()
    given = few(labels).numpy()
    graph = normalised_graph(nearest_neighbours(lambda: [normalise_rows(features)], 90, 5), 2.0)
    weights = graph.toarray()
    assert np.allclose(weights, weights.T)
    assert np.abs(np.linalg.eigvalsh(weights)).max() <= 1 + 1e-12
    scores = propagate(graph, given, CLASSES, 0.9)
    one_hot = np.zeros((90, CLASSES))
    one_hot[np.flatnonzero(given >= 0), given[given >= 0]] = 1
    exact = 0.1 * np.linalg.solve(np.eye(90) - 0.9 * weights, one_hot)
    np.testing.assert_allclose(scores, exact, atol=1e-6)

    # scikit-learn normalises the weights that its kernel returns, so it gets W.
    similarity = np.clip((normalise_rows(features) @ normalise_rows(features).T).double().numpy(), 0, None) ** 2
    near = np.zeros_like(similarity)
    np.put_along_axis(near, nearest_neighbours(lambda: [normalise_rows(features)], 90, 5).indices.numpy(), 1, 1)
    symmetric = similarity * near + (similarity * near).T
    theirs = LabelSpreading(kernel=lambda x, y: symmetric, alpha=0.9, max_iter=10_000, tol=1e-12)
    theirs.fit(features.numpy(), given)
    np.testing.assert_allclose(class_probabilities(scores), theirs.label_distributions_, atol=1e-4)


def test_propagation_labels_clusters_from_one_label_and_reaches_no_other_island():
    features, labels = make_clusters()
    graph = normalised_graph(nearest_neighbours(lambda: [normalise_rows(features)], 90, 5), 1.0)
    scores = with_equal_masses(propagate(graph, few(labels).numpy(), CLASSES, 0.99))
    assert (scores.argmax(1) == labels.numpy()).mean() > 0.95
    np.testing.assert_allclose(scores.sum(0), 1, rtol=1e-5)
    pair = sparse.block_array([[graph, None], [None, graph]]).tocsr()
    apart = propagate(pair, np.concatenate((few(labels), torch.full((90,), UNKNOWN))), CLASSES, 0.99)
    assert not apart[90:].any()
    np.testing.assert_allclose(class_probabilities(apart)[90:], 1 / CLASSES)


def test_with_one_label_a_class_the_temperature_makes_confidence_meet_accuracy():
    digits = load_digits()
    features, labels = normalise_rows(torch.from_numpy(digits.data[:900])), digits.target[:900]
    graph = normalised_graph(nearest_neighbours(lambda: [features], 900, 10), 1.0)

    def scores(given: np.ndarray) -> np.ndarray:
        return with_equal_masses(propagate(graph, given, 10, 0.99))

    given = np.full(900, UNKNOWN)
    for label in range(10):
        given[np.flatnonzero(labels == label)[0]] = label
    raw = scores(given)
    shares = shares_of_classes(given, 10)
    temperature = own_labels_temperature(raw, given, scores, shares)
    accuracy = (raw.argmax(1) == labels).mean()
    plain, fitted = (class_probabilities(raw, t, shares).max(1).mean() for t in (1.0, temperature))
    assert plain < accuracy - 0.2  # far too unsure
    assert abs(fitted - accuracy) < abs(plain - accuracy) / 2
    assert own_labels_temperature(raw, given, scores, shares) == temperature
    assert own_labels_temperature(np.zeros((4, 2)), np.full(4, UNKNOWN), scores, np.zeros(2)) == 1.0


def test_duplicates_and_opposite_images_make_a_graph():
    found = Neighbours(torch.tensor([[1], [0], [0]]), torch.tensor([[1.0], [1.0], [-0.5]]))
    np.testing.assert_allclose(normalised_graph(found, 1.0).toarray(), [[0, 1, 0], [1, 0, 0], [0, 0, 0]])


def test_a_temperature_raises_scores_to_a_power():
    scores = np.array([[0.2, 0.8], [0.0, 0.0]])
    np.testing.assert_allclose(class_probabilities(scores, 0.5), [[0.04 / 0.68, 0.64 / 0.68], [0.5, 0.5]], rtol=1e-6)


def test_targets_that_are_certain_are_labels():
    features, labels = make_clusters()
    features = normalise_rows(features)
    one_hot = torch.nn.functional.one_hot(labels, CLASSES).float()
    weight = torch.randn(CLASSES, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    by_label, by_target = (objective_and_gradient(lambda y=y: [(features, y)], weight, 0.01) for y in (labels, one_hot))
    assert by_label[0] == pytest.approx(by_target[0])
    torch.testing.assert_close(by_label[1], by_target[1])
    fits = [fit_logistic(lambda y=y: [(features, y)], 6, CLASSES, l2=1e-2) for y in (labels, one_hot)]
    torch.testing.assert_close(fits[0].weight, fits[1].weight, atol=1e-3, rtol=1e-3)


def test_principal_components_are_those_of_the_whole_however_it_is_cut():
    features = make_clusters()[0].double()
    projection = principal_components(features.float().split(11), 2)
    _, _, expected = torch.linalg.svd(features - features.mean(0), full_matrices=False)
    torch.testing.assert_close((projection.basis @ expected[:2].T).abs(), torch.eye(2).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(projection(features.float()).mean(0), torch.zeros(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shared", [True, False])
def test_densities_and_an_iteration_are_scikit_learns(shared):
    points, labels = make_clusters(width=3)
    start = _start(points, few(labels), CLASSES, CLASSES, 0)
    if not shared:
        start = Mixture(start.weights, start.means, start.factors.repeat(CLASSES, 1, 1), start.classes)
    covariance = start.factors[0] @ start.factors[0].T
    kind, precision = ("tied", covariance.inverse()) if shared else ("full", covariance.inverse().expand(CLASSES, 3, 3))
    theirs = GaussianMixture(
        CLASSES, covariance_type=kind, max_iter=1, tol=0, reg_covar=0, weights_init=start.weights.numpy(),
        means_init=start.means.numpy(), precisions_init=precision.numpy(),
    )  # fmt: skip
    theirs._initialize_parameters(points.double().numpy(), np.random.RandomState(0))
    unlabelled = torch.full_like(labels, UNKNOWN)
    sums, likelihood = _expect(points, unlabelled, start)
    assert likelihood / len(points) == pytest.approx(theirs._e_step(points.double().numpy())[0], rel=1e-6)
    none = _Prior(torch.zeros(3, 3, dtype=torch.float64), start.classes)
    ours = _maximise(sums, none)
    log_responsibility = theirs._e_step(points.double().numpy())[1]
    theirs._m_step(points.double().numpy(), log_responsibility)
    np.testing.assert_allclose(ours.means, theirs.means_, rtol=1e-6)
    np.testing.assert_allclose(ours.weights, theirs.weights_, rtol=1e-6)
    found = ours.factors @ ours.factors.transpose(1, 2)
    # Our covariances hold ten images of the prior's, here zero, in the denominator.
    images = len(points) if shared else 90 * theirs.weights_[:, None, None]
    expected = theirs.covariances_ * (images / (images + 10))
    np.testing.assert_allclose(found if not shared else found[0], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("shared", [True, False])
def test_a_mixture_names_clusters_by_one_label_and_its_likelihood_never_falls(shared):
    points, labels = make_clusters(width=3)
    fit = fit_mixture(points, few(labels), CLASSES, components=2 * CLASSES, shared=shared)
    assert fit.converged
    found = (fit.mixture.log_joint(points.double()).softmax(1) @ fit.mixture.classes).argmax(1)
    assert (found == labels).float().mean() > 0.95
    # The prior of covariances is no part of the objective, so that it may rise a little.
    assert all(after <= before + 1e-2 for before, after in zip(fit.objectives, fit.objectives[1:], strict=False))
    torch.testing.assert_close(fit.mixture.classes.sum(1), torch.ones(6).double())
    assert fit.mixture.weights.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("shared", [True, False])
def test_the_head_in_a_file_is_the_mixture(shared):
    features, labels = make_clusters()
    projection = principal_components([features], 4)
    mixture = fit_mixture(projection(features), few(labels), CLASSES, components=4, shared=shared).mixture
    probabilities = mixture.log_joint(projection(features).double()).softmax(1) @ mixture.classes
    logits = MixtureHead.fitted(projection, mixture)(features)
    torch.testing.assert_close(logits.softmax(1), probabilities.float(), atol=1e-4, rtol=1e-3)


def test_a_component_without_labels_takes_the_class_of_the_nearest_and_none_is_impossible():
    points = torch.tensor([[0.0], [0.1], [10.0], [10.1], [20.0], [20.1]])
    labels = torch.tensor([0, UNKNOWN, 1, UNKNOWN, UNKNOWN, UNKNOWN])
    mixture = fit_mixture(points, labels, 2, components=3, shared=True).mixture
    far = mixture.classes[mixture.means[:, 0].argmax()]
    assert far.argmax() == 1
    assert far.min() > 0
    assert math.isfinite(mixture.log_joint(points.double()).sum().item())


def test_more_classes_than_components_are_refused():
    points, labels = make_clusters()
    with pytest.raises(ValueError, match="2 components for 3 labelled classes"):
        fit_mixture(points, labels, CLASSES, components=2, shared=True)


def test_a_mixture_of_other_labels_takes_the_projection_of_the_same_features():
    features, labels = make_clusters()
    probe, shared = ProbeConfig.model_validate({"head": "mixture"}), SharedParts()
    fits = [fit_on_features(features, few(labels, n).numpy(), CLASSES, probe, shared) for n in (1, 2)]
    assert shared.projection is not None
    alone = fit_on_features(features, few(labels, 2).numpy(), CLASSES, probe)
    assert torch.equal(fits[1].head(features), alone.head(features))
    assert not torch.equal(fits[0].head(features), alone.head(features))
