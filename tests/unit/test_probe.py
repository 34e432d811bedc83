"""The linear probe's solver, normalisation and temperature, against closed forms and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from dpt_ray.core.probe.logistic import fit_logistic, objective_and_gradient
from dpt_ray.core.probe.normalisation import normalise_rows
from dpt_ray.core.probe.temperature import fit_temperature, out_of_fold_temperature

CLASSES, FEATURES = 5, 12


def make_data(rows: int = 200, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised features whose scales fall over three orders of magnitude, as an encoder's do."""
    random = torch.Generator().manual_seed(seed)
    scales = torch.logspace(0, -3, FEATURES)
    centres = torch.randn(CLASSES, FEATURES, generator=random)
    labels = torch.arange(rows) % CLASSES
    features = (centres[labels] + torch.randn(rows, FEATURES, generator=random)) * scales
    return normalise_rows(features), labels


def pieces(features: torch.Tensor, labels: torch.Tensor, size: int = 10_000):
    return lambda: zip(features.split(size), labels.split(size), strict=True)


def fit(features, labels, *, l2, size=10_000, classes=CLASSES, **settings):
    return fit_logistic(pieces(features, labels, size), features.shape[1], classes, l2=l2, **settings)


def test_gradient_is_the_slope_of_the_objective():
    features, labels = make_data(30)
    weight = torch.randn(CLASSES, FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    _, gradient = objective_and_gradient(pieces(features, labels), weight, 0.01)
    tracked = weight.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(features.double() @ tracked.T, labels) + 0.005 * tracked.square().sum()
    (expected,) = torch.autograd.grad(loss, tracked)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("l2", [1e-2, 0.0025 / 200])
def test_the_solution_is_scikit_learns(l2):
    features, labels = make_data()
    ours = fit(features, labels, l2=l2, tolerance=1e-8)
    assert ours.converged
    theirs = LogisticRegression(C=1 / (l2 * len(labels)), fit_intercept=False, tol=1e-10, max_iter=100_000)
    coefficients = torch.from_numpy(theirs.fit(features.double().numpy(), labels.numpy()).coef_)
    objective, _ = objective_and_gradient(pieces(features, labels), coefficients, l2)
    assert ours.objective == pytest.approx(objective, rel=1e-6)
    torch.testing.assert_close(ours.weight, coefficients, rtol=2e-3, atol=2e-3 * coefficients.abs().max().item())
    assert torch.equal((features @ ours.weight.float().T).argmax(1), (features @ coefficients.float().T).argmax(1))


def test_two_rows_have_a_closed_form():
    # x = (1, -1) / sqrt 2 of class 0 and -x of class 1: W = ((a, -a), (-a, a)) with a margin m = 2 sqrt 2 a.
    # d/dm of log(1 + exp(-m)) + l2 / 2 * 4 (m / (2 sqrt 2))^2 is zero where exp(-m) / (1 + exp(-m)) = l2 m / 2.
    x = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) / math.sqrt(2)
    l2 = 0.1
    found = fit(x, torch.tensor([0, 1]), l2=l2, classes=2, tolerance=1e-9)
    a = found.weight[0, 0].item()
    torch.testing.assert_close(
        found.weight, torch.tensor([[a, -a], [-a, a]], dtype=torch.float64), rtol=1e-5, atol=1e-6
    )
    margin = 2 * math.sqrt(2) * a
    assert 1 / (1 + math.exp(margin)) == pytest.approx(l2 * margin / 2, rel=1e-4)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_solution_does_not_depend_on_how_the_data_is_cut(size):
    features, labels = make_data()
    whole, cut = (fit(features, labels, l2=1e-3, size=s, tolerance=1e-7) for s in (10_000, size))
    torch.testing.assert_close(cut.weight, whole.weight, rtol=1e-3, atol=1e-3)


def test_preconditioning_needs_far_fewer_passes_than_scikit_learn():
    features, labels = make_data(2000)
    ours = fit(features, labels, l2=0.0025 / 2000, tolerance=1e-6)
    theirs = LogisticRegression(C=400, fit_intercept=False, tol=1e-6, max_iter=10_000).fit(features, labels)
    assert ours.converged
    assert 3 * len(ours.objectives) < theirs.n_iter_[0]


def test_giving_up_is_told_and_returns_the_best_so_far():
    features, labels = make_data()
    found = fit(features, labels, l2=1e-6, max_evaluations=4)
    assert not found.converged
    assert found.objective < found.objectives[0]
    objective, gradient = objective_and_gradient(pieces(features, labels), found.weight, 1e-6)
    assert found.objective == pytest.approx(objective)
    assert found.gradient == pytest.approx(gradient.abs().max().item())


def test_features_that_tell_nothing_are_solved_at_once():
    found = fit(torch.zeros(6, 3), torch.arange(6) % 2, l2=0.1, classes=2)
    assert found.converged
    assert found.objective == pytest.approx(math.log(2))
    assert not found.weight.any()
    assert found.objectives == []


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="no row"):
        fit(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), l2=0.1)


@given(st.integers(0, 1000))
def test_normalised_rows_have_mean_zero_and_norm_one_whatever_the_scale(seed):
    random = np.random.default_rng(seed)
    features = torch.from_numpy(random.normal(size=(4, 6)) * 10 ** random.uniform(-3, 3) + random.normal() * 5)
    rows = normalise_rows(features)
    torch.testing.assert_close(rows.mean(1), torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(4), rtol=1e-4, atol=0)
    torch.testing.assert_close(normalise_rows(3 * features + 7), rows, rtol=1e-2, atol=1e-3)


def test_a_row_of_equal_features_becomes_zeros():
    assert normalise_rows(torch.full((1, 4), 3.0)).tolist() == [[0, 0, 0, 0]]


def test_temperature_undoes_a_scaling_of_calibrated_logits():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 3, generator=random)
    labels = torch.multinomial(logits.softmax(1), 1, generator=random).flatten()
    assert fit_temperature(logits, labels) == pytest.approx(1, rel=0.05)
    assert fit_temperature(4 * logits, labels) == pytest.approx(4, rel=0.05)


def test_temperature_of_images_left_out_and_of_single_images():
    features, labels = make_data(100)

    def solve(x, y):
        return fit(x, y, l2=1e-5).weight

    overconfident = fit_temperature(features @ solve(features, labels).float().T, labels)
    assert out_of_fold_temperature(features, labels, solve) > 2 * overconfident
    assert out_of_fold_temperature(features[:CLASSES], labels[:CLASSES], solve) == 1.0


def test_pseudo_images_in_which_stage_1_sees_another_class_can_be_left_out(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from dpt_ray.pipeline.steps import fit_probe

    labels, agreeing = [np.array([0, 1, 2]), np.array([0, 1])], [np.array([True, False, True]), np.zeros(2, bool)]
    monkeypatch.setattr(fit_probe, "read_index", lambda url: None)
    monkeypatch.setattr(fit_probe, "requested_labels", lambda index: labels)
    monkeypatch.setattr(fit_probe, "features_urls", lambda artifact: ["first", "second"])
    monkeypatch.setattr(fit_probe, "agreeing_images", lambda context, index, predictions: agreeing)
    parents = {"pseudo_images": SimpleNamespace(url="x"), "encoded_pseudo": None}
    every = fit_probe._pseudo_pieces(SimpleNamespace(parents=parents))
    assert [(piece.url, piece.rows) for piece in every] == [("first", None), ("second", None)]
    (kept,) = fit_probe._pseudo_pieces(SimpleNamespace(parents=parents | {fit_probe.PSEUDO_PREDICTIONS: None}))
    assert (kept.url, kept.rows.tolist(), kept.labels.tolist()) == ("first", [0, 2], [0, 2])
