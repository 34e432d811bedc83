"""FreeMatch's closed forms on hand-made batches."""

import math

import pytest
import torch
from semi_supervised_batches import FixedLogits, logits_of, make_batch, make_objective

from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.core.semi_supervised.algorithm import Task
from dpt_ray.core.semi_supervised.algorithms import freematch as freematch_module
from dpt_ray.core.semi_supervised.algorithms.freematch import FreeMatch
from dpt_ray.core.semi_supervised.classification_objective import SemiSupervised


def make_freematch(num_classes: int = 3, **settings) -> FreeMatch:
    return FreeMatch(FreeMatch.Settings(**settings), Task(num_classes, num_unlabelled=100, total_steps=10))


def freematch_objective(num_classes: int = 3, **settings) -> tuple[SemiSupervised, FreeMatch]:
    algorithm = make_freematch(num_classes, **settings)
    return make_objective(algorithm), algorithm


def test_statistics_and_thresholds_after_one_update():
    objective = make_freematch(statistics_momentum=0.9)
    objective.update(torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1]]))
    assert objective.tau.item() == pytest.approx(0.9 / 3 + 0.1 * 0.7)
    torch.testing.assert_close(objective.p_tilde, torch.tensor([0.3 + 0.07, 0.3 + 0.02, 0.3 + 0.01]))
    torch.testing.assert_close(objective.h_tilde, torch.tensor([0.3 + 0.1, 0.3, 0.3]))
    torch.testing.assert_close(objective.thresholds(), 0.37 * torch.tensor([1.0, 0.32 / 0.37, 0.31 / 0.37]))


def test_mask_compares_with_the_threshold_of_the_predicted_class():
    objective = make_freematch()
    objective.tau.fill_(0.8)
    objective.p_tilde.copy_(torch.tensor([0.5, 0.4, 0.1]))
    # Thresholds are 0.8, 0.64 and 0.16.
    q = torch.tensor([[0.79, 0.21, 0.0], [0.3, 0.7, 0.0], [0.81, 0.19, 0.0], [0.25, 0.35, 0.4], [0.4, 0.6, 0.0]])
    mask, pseudo_labels = objective.mask(q)
    assert mask.tolist() == [0, 1, 1, 1, 0]
    assert pseudo_labels.tolist() == [0, 1, 0, 2, 1]


def test_update_comes_before_the_mask():
    # Before the step tau is 1/2 and the row's 0.7 would count; after it tau is 0.6 and still does;
    # a second row at 0.55 would count before the update only.
    objective, _ = freematch_objective(num_classes=2, statistics_momentum=0.0, fairness_weight=0)
    weak = logits_of([0.7, 0.3], [0.55, 0.45])
    model = FixedLogits([[0.0, 0.0]], weak, [[0.0, 0.0], [0.0, 0.0]])
    _, metrics = objective(model, {"labelled": make_batch(1, [0]), "unlabelled": make_batch(2, first_seed=9)})
    assert metrics["threshold"].item() == pytest.approx(0.625)
    assert metrics["mask_share"].item() == pytest.approx(0.5)


def test_loss_and_gradient_on_a_hand_made_batch():
    objective, algorithm = freematch_objective(statistics_momentum=1.0, unlabelled_weight=2.0, fairness_weight=0)
    algorithm.tau.fill_(0.75)
    weak = logits_of([0.8, 0.1, 0.1], [0.2, 0.7, 0.1])  # only the first row passes 0.75
    strong = logits_of([0.5, 0.25, 0.25], [0.25, 0.5, 0.25])
    model = FixedLogits(logits_of([0.2, 0.4, 0.4]), weak, strong)
    batches = {"labelled": make_batch(1, [2]), "unlabelled": make_batch(2, first_seed=9)}
    loss, metrics = objective(model, batches)
    loss.backward()

    assert model.calls == 1
    assert metrics["labelled_loss"].item() == pytest.approx(-math.log(0.4))
    assert metrics["unlabelled_loss"].item() == pytest.approx(-math.log(0.5) / 2)
    assert loss.item() == pytest.approx(-math.log(0.4) - math.log(0.5))
    gradient = model.logits.grad
    torch.testing.assert_close(gradient[0], torch.tensor([0.2, 0.4, -0.6]))
    assert gradient[1:3].abs().max() == 0  # the weak views teach, they do not learn
    torch.testing.assert_close(gradient[3], torch.tensor([-0.5, 0.25, 0.25]))
    assert gradient[4].abs().max() == 0
    assert set(metrics) == {"loss", "labelled_loss", "unlabelled_loss", "mask_share", "threshold"}
    assert not any(value.requires_grad for value in metrics.values())


def test_unlabelled_labels_are_never_read():
    model = FixedLogits(logits_of([0.2, 0.8]), *[logits_of([0.9, 0.1])] * 2)
    losses = []
    for label in (UNKNOWN_LABEL, 1):
        batches = {"labelled": make_batch(1, [1]), "unlabelled": make_batch(1, [label], first_seed=9)}
        losses.append(freematch_objective(num_classes=2)[0](model, batches)[0].item())
    assert losses[0] == losses[1]


def test_fairness_loss_in_closed_form():
    objective = make_freematch(num_classes=2)
    objective.p_tilde.copy_(torch.tensor([0.6, 0.4]))
    objective.h_tilde.copy_(torch.tensor([0.8, 0.2]))
    logits = torch.tensor(logits_of([0.9, 0.1], [0.7, 0.3], [0.4, 0.6], [0.01, 0.99]))
    loss = objective.fairness_loss(logits, torch.tensor([1.0, 1.0, 1.0, 0.0]))
    # Masked rows: mean probabilities (2/3, 1/3), histogram (2/3, 1/3), so the ratios are equal.
    expected = torch.tensor([0.6 / 0.8, 0.4 / 0.2])
    expected = expected / expected.sum()
    assert loss.item() == pytest.approx((expected * math.log(0.5)).sum().item(), rel=1e-5)


def test_fairness_loss_without_masked_rows_or_with_absent_classes_is_finite():
    objective = make_freematch(num_classes=3)
    for mask in (torch.zeros(2), torch.ones(2)):
        logits = torch.tensor(logits_of([0.9, 0.05, 0.05], [0.8, 0.1, 0.1])).requires_grad_()
        loss = objective.fairness_loss(logits, mask)
        loss.backward()
        assert math.isfinite(loss.item())
        assert logits.grad.isfinite().all()
    assert objective.fairness_loss(logits, torch.zeros(2)).item() == 0


def test_two_workers_compute_what_one_does(monkeypatch):
    q = torch.rand(6, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), requires_grad=True)
    mask = torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0, 0.0])
    single = make_freematch()
    single.update(q)
    loss = single.fairness_loss(logits, mask)
    (gradient,) = torch.autograd.grad(loss, logits)

    # Stand in for the all-reduce: the first pass records each worker's value, the second averages.
    halves = [slice(0, 3), slice(3, 6)]
    for call in ("update", "fairness_loss"):
        recorded: list[torch.Tensor] = []
        monkeypatch.setattr(freematch_module, "mean_over_workers", lambda v, seen=recorded: (seen.append(v), v)[1])
        for half in halves:
            make_freematch().update(q[half]) if call == "update" else single.fairness_loss(logits[half], mask[half])
        mean = torch.stack(recorded).mean(0)
        monkeypatch.setattr(freematch_module, "mean_over_workers", lambda v, mean=mean: mean)
        if call == "update":
            worker = make_freematch()
            worker.update(q[halves[0]])
            for name, buffer in single.named_buffers():
                torch.testing.assert_close(dict(worker.named_buffers())[name], buffer)
        else:
            losses = [single.fairness_loss(logits[half], mask[half]) for half in halves]
            torch.testing.assert_close(losses[0], loss)
            (averaged,) = torch.autograd.grad(sum(losses) / 2, logits)
            torch.testing.assert_close(averaged, gradient)


def test_statistics_are_in_the_state_dict():
    objective = make_freematch()
    assert set(objective.state_dict()) == {"tau", "p_tilde", "h_tilde"}
    assert not list(objective.parameters())
