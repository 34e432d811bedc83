"""The losses of stage 0 against their formulas: closed forms, float64 computations, gradients, collapse."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dpt_ray.config.classifier_section import ClassifierModelConfig
from dpt_ray.config.encoder_section import EncoderConfig, MsnConfig
from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.self_supervised.method import Method, spread
from dpt_ray.core.self_supervised.methods import method_class
from dpt_ray.core.self_supervised.methods.emp_ssl import coding_rate, similarity
from dpt_ray.core.self_supervised.methods.msn import balance, kept_patches, msn_loss, target_distributions
from dpt_ray.core.self_supervised.methods.vicreg import EPSILON, covariance, invariance, variance

SMALL = ClassifierModelConfig(width=4)
VIT = ClassifierModelConfig(name="vit", patch_size=2, dim=16, blocks=1, heads=2)


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def on_sphere(*shape: int, seed: int = 0) -> Tensor:
    return torch.nn.functional.normalize(rows(*shape, seed=seed), dim=-1)


# VICReg


def test_vicregs_terms_are_those_of_the_formulas():
    first, second = (rows(7, 3, seed=seed).numpy() for seed in (0, 1))
    assert invariance(*map(torch.from_numpy, (first, second))) == pytest.approx(
        np.mean([((a - b) ** 2).sum() for a, b in zip(first, second, strict=True)])
    )
    deviations = np.sqrt(first.var(axis=0, ddof=1) + 1e-4)
    assert variance(torch.from_numpy(first)) == pytest.approx(np.maximum(0, 1 - deviations).mean())
    matrix = np.cov(first, rowvar=False)
    off_diagonal = sum(matrix[i, j] ** 2 for i in range(3) for j in range(3) if i != j)
    assert covariance(torch.from_numpy(first)) == pytest.approx(off_diagonal / 3)


def test_vicregs_terms_of_a_hand_made_batch():
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert covariance(corners) == 0
    assert variance(corners) == 0  # the deviations are above 1
    line = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    assert covariance(line) == pytest.approx((2.0**2 + 2.0**2) / 2)


def test_collapsed_projections_have_vicregs_largest_variance_term():
    same = torch.ones(5, 3)
    assert variance(same) == pytest.approx(1 - math.sqrt(EPSILON))
    assert covariance(same) == invariance(same, same) == 0


@pytest.mark.parametrize("term", [lambda x: invariance(x, x.flip(0)), variance, covariance])
def test_gradients_of_vicregs_terms(term):
    values = (rows(6, 4) * 0.3).requires_grad_()
    assert torch.autograd.gradcheck(term, (values,))


# Total coding rate


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (4, 4)])
def test_the_coding_rate_is_that_of_both_gram_matrices(shape):
    values, (count, size) = on_sphere(*shape), shape
    for gram in (values @ values.T, values.T @ values):
        whole = np.eye(len(gram)) + size / (count * 0.2) * gram.numpy()
        expected = 0.5 * np.log(np.linalg.eigvalsh(whole)).sum()
        assert coding_rate(values, 0.2) == pytest.approx(expected)
    assert coding_rate(values.float(), 0.2) == pytest.approx(float(coding_rate(values, 0.2)), rel=1e-4)


def test_the_coding_rate_of_orthogonal_rows_is_the_largest_and_of_equal_rows_the_smallest():
    largest = coding_rate(torch.eye(6, dtype=torch.float64), 0.2)
    assert largest == pytest.approx(6 / 2 * math.log(1 + 1 / 0.2))
    same = torch.zeros(6, 6, dtype=torch.float64)
    same[:, 0] = 1
    smallest = coding_rate(same, 0.2)
    assert smallest == pytest.approx(0.5 * math.log(1 + 6 / 0.2))
    assert smallest < coding_rate(on_sphere(6, 6), 0.2) < largest


def test_the_coding_rates_of_views_are_computed_together():
    views = on_sphere(3, 5, 4)
    alone = torch.stack([coding_rate(view, 0.5) for view in views])
    torch.testing.assert_close(coding_rate(views, 0.5), alone)


def test_the_gradient_of_the_coding_rate():
    assert torch.autograd.gradcheck(lambda x: coding_rate(x, 0.2), (on_sphere(4, 6).requires_grad_(),))
    assert torch.autograd.gradcheck(lambda x: coding_rate(x, 0.2), (on_sphere(6, 4).requires_grad_(),))


def test_the_similarity_of_views_is_their_cosine_with_the_mean():
    views = on_sphere(3, 5, 4)
    cosines = [
        float(view[row] @ views[:, row].mean(0) / views[:, row].mean(0).norm()) for view in views for row in range(5)
    ]
    assert similarity(views) == pytest.approx(np.mean(cosines))
    assert similarity(views[:1].expand(3, -1, -1)) == pytest.approx(1)


# MSN


def test_msns_loss_is_the_closed_form_on_a_hand_made_batch():
    # Cosines with which softmax at temperature 0.5 gives p = (4/5, 1/5) and (1/5, 4/5).
    cosine = 0.5 * math.log(4)
    scores = torch.tensor([[[cosine, 0.0], [0.0, cosine]]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss, metrics = msn_loss(scores, targets, MsnConfig(temperature=0.5, entropy_weight=3.0))
    assert metrics["cross_entropy"] == pytest.approx(-math.log(0.8))
    assert metrics["mean_entropy"] == pytest.approx(math.log(2))  # the mean prediction is uniform
    assert loss == pytest.approx(-math.log(0.8) - 3 * math.log(2))


def test_msns_loss_of_two_anchors_is_the_mean_over_anchors_and_images():
    scores, targets = rows(2, 3, 4), rows(3, 4, seed=1).softmax(1)
    config = MsnConfig(temperature=0.3, entropy_weight=0.7)
    predicted = (scores / 0.3).softmax(2).numpy()
    entropies = [-(targets[b].numpy() * np.log(predicted[m, b])).sum() for m in range(2) for b in range(3)]
    mean = predicted.reshape(6, 4).mean(0)
    expected = np.mean(entropies) + 0.7 * (mean * np.log(mean)).sum()
    assert msn_loss(scores, targets, config)[0] == pytest.approx(expected)
    assert torch.autograd.gradcheck(lambda x: msn_loss(x, targets, config)[0], (scores.requires_grad_(),))


def test_anchors_that_all_choose_one_prototype_have_the_worst_loss():
    same = torch.tensor([[[1.0, -1.0, -1.0]] * 4])
    targets = target_distributions(same[0], MsnConfig())
    loss, metrics = msn_loss(same, targets, MsnConfig())
    assert metrics["mean_entropy"] == pytest.approx(0, abs=1e-6)
    assert loss == pytest.approx(0, abs=1e-6)
    apart = torch.tensor([[[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]])
    best, _ = msn_loss(apart, target_distributions(apart[0], MsnConfig()), MsnConfig())
    assert best == pytest.approx(-math.log(3), abs=1e-6)


def test_targets_are_sharper_than_predictions_and_have_no_gradient():
    scores = rows(5, 4).requires_grad_()
    targets = target_distributions(scores, MsnConfig())
    assert not targets.requires_grad
    torch.testing.assert_close(targets, (scores / 0.025).softmax(1).detach())
    # Sharpening by the exponent 1 / T of the paper, T = 0.025 / 0.1, is the same.
    powers = (scores / 0.1).softmax(1).detach() ** 4
    torch.testing.assert_close(targets, powers / powers.sum(1, keepdim=True))


def test_sinkhorn_gives_every_prototype_an_equal_share():
    targets = (3 * rows(12, 4)).softmax(1)
    balanced = balance(targets, 200)
    torch.testing.assert_close(balanced.sum(1), torch.ones(12, dtype=torch.float64))
    torch.testing.assert_close(balanced.sum(0), torch.full((4,), 3.0, dtype=torch.float64), rtol=1e-3, atol=1e-3)
    scores = 0.1 * rows(12, 4)
    expected = balance((scores / 0.025).softmax(1), 3)
    torch.testing.assert_close(target_distributions(scores, MsnConfig(sinkhorn=3)), expected)


@pytest.mark.parametrize(("masked", "left"), [(0.0, 16), (0.5, 8), (0.3, 12), (0.99, 1)])
def test_a_mask_leaves_a_uniform_subset_of_fixed_size(masked, left):
    kept = kept_patches(RowRandom(range(500)), 16, masked)
    assert kept.shape == (500, left)
    assert (kept.diff(dim=1) > 0).all()
    counts = torch.bincount(kept.flatten(), minlength=16).double() / 500
    assert (counts - left / 16).abs().max() < 0.12


def test_masked_patches_do_not_reach_the_features():
    torch.manual_seed(0)
    state = _state("msn", VIT)
    encoder = state.model.encoder.eval()
    images, kept = torch.randn(2, 3, 8, 8), torch.tensor([[0, 3, 5], [1, 2, 15]])
    changed = images.clone()
    changed[0, :, 6:, 6:] += 1  # patch 15
    expected = encoder.features(images, kept=kept)
    torch.testing.assert_close(encoder.features(changed, kept=kept)[0], expected[0])
    assert not torch.allclose(encoder.features(changed)[0], encoder.features(images)[0])
    everything = torch.arange(16).expand(2, -1)
    torch.testing.assert_close(encoder.features(images, kept=everything), encoder.features(images))


# All methods


def _state(method: str, model: ClassifierModelConfig, **settings):
    from dpt_ray.core.training.from_settings import encoder_training

    config = EncoderConfig(method=method, model=model, hidden=8, projection=6, **settings)
    return encoder_training(config, image_size=8, channels=3, seed=0)


def _batch(images: Tensor) -> ImageBatch:
    count = len(images)
    unknown = torch.full((count,), -1)
    return ImageBatch(images, unknown, torch.arange(count), RowRandom(range(count)))


@pytest.mark.parametrize(
    ("method", "model"),
    [("vicreg", SMALL), ("emp_ssl", ClassifierModelConfig(name="resnet18", width=2)), ("msn", VIT)],
)
def test_every_parameter_gets_a_gradient_and_the_average_gets_none(method, model):
    state = _state(method, model, emp_ssl={"patches": 2}, msn={"prototypes": 5})
    images = torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    loss, metrics = state.objective(state.model.train(), {"images": _batch(images)})
    loss.backward()
    assert [name for name, value in state.model.named_parameters() if value.grad is None] == []
    assert all(value.grad is None for value in state.ema.model.parameters())
    assert all(value.ndim == 0 and not value.requires_grad and value.isfinite() for value in metrics.values())
    assert metrics["loss"] == loss.detach()


def test_the_methods_are_those_of_the_setting():
    names = EncoderConfig.model_fields["method"].annotation.__args__
    assert all(issubclass(method_class(name), Method) for name in names)


def test_spread_tells_collapsed_projections_from_others():
    assert spread(torch.ones(10, 4)) == pytest.approx(0, abs=1e-6)
    assert spread(rows(2000, 16)) == pytest.approx(1, abs=0.02)


def test_msns_average_rises_to_the_end():
    state = _state("msn", VIT, ema_decay=0.9, images=1000)
    assert [round(state.ema.decay(seen), 6) for seen in (0, 500, 1000, 1200)] == [0.9, 0.95, 1.0, 1.0]
