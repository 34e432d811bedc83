"""What holds for every algorithm on the menu, and the menu itself."""

import math

import pytest
import torch
from semi_supervised_batches import FixedLogits, logits_of, make_batch, make_objective

from dpt_ray.config.classifier_section import AlgorithmConfig, ClassifierConfig
from dpt_ray.config.load import load_config
from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.core.semi_supervised.algorithm import Algorithm, Task, Views
from dpt_ray.core.semi_supervised.algorithms import algorithm_class, algorithm_names, algorithm_settings
from dpt_ray.core.semi_supervised.algorithms.fixmatch import FixMatch
from dpt_ray.core.semi_supervised.algorithms.pseudo_label import PseudoLabel
from dpt_ray.core.semi_supervised.algorithms.supervised import Supervised
from dpt_ray.core.training.from_settings import images_per_step
from dpt_ray.errors import UserError

MENU = ("adamatch", "fixmatch", "flexmatch", "freematch", "pseudo_label", "softmatch", "supervised")
TASK = Task(num_classes=3, num_unlabelled=20, total_steps=10)


def make(name: str, **settings) -> Algorithm:
    return algorithm_class(name)(algorithm_settings(AlgorithmConfig(name=name, **settings)), TASK)


def test_the_menu_is_the_files_in_its_folder():
    assert algorithm_names() == MENU


@pytest.mark.parametrize("name", MENU)
def test_the_loss_is_finite_and_gradients_reach_the_student_alone(name):
    algorithm = make(name)
    confident = logits_of([0.98, 0.01, 0.01], [0.01, 0.98, 0.01])
    unsure = logits_of([0.4, 0.3, 0.3], [0.2, 0.5, 0.3])
    blocks = {"none": [], "weak": [confident], "strong": [confident, unsure]}[algorithm.consistency_view]
    model = FixedLogits(logits_of([0.2, 0.4, 0.4]), *blocks)
    batches = {"labelled": make_batch(1, [2]), "unlabelled": make_batch(2, first_seed=9)}
    objective = make_objective(algorithm)
    loss, metrics = objective(model, batches)
    loss, metrics = objective(model, batches)  # a second step: pseudo-label's first one weighs nothing
    loss.backward()
    assert math.isfinite(loss.item())
    assert metrics["loss"].item() == pytest.approx(loss.item())
    learns = model.logits.grad.abs().sum(1) > 0
    assert (
        learns.tolist()
        == {"none": [True], "weak": [True] * 3, "strong": [True, False, False, True, True]}[algorithm.consistency_view]
    )
    assert not any(value.requires_grad for value in metrics.values())
    assert not list(algorithm.parameters())


@pytest.mark.parametrize("name", [name for name in MENU if name != "supervised"])
def test_labels_of_unlabelled_images_are_never_read(name):
    losses = []
    for label in (UNKNOWN_LABEL, 1):
        unlabelled = [logits_of([0.9, 0.05, 0.05])] * (1 if make(name).consistency_view == "weak" else 2)
        batches = {"labelled": make_batch(1, [1]), "unlabelled": make_batch(1, [label], first_seed=9)}
        losses.append(
            make_objective(make(name))(FixedLogits(logits_of([0.2, 0.4, 0.4]), *unlabelled), batches)[0].item()
        )
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", [name for name in MENU if name != "supervised"])
def test_weights_are_shares_and_confident_images_count_at_least_as_much(name):
    algorithm = make(name)
    sure, unsure = torch.eye(3) * 0.985 + 0.005, torch.eye(3) * 0.1 + 0.3  # balanced, so that alignment does nothing
    q = torch.cat([sure, unsure])
    targets = algorithm.compute_targets(Views(labelled=q, weak=q, index=torch.arange(6)))
    assert targets.target.tolist() == [0, 1, 2] * 2
    assert ((targets.weight >= 0) & (targets.weight <= 1)).all()
    assert targets.weight.tolist() == sorted(targets.weight.tolist(), reverse=True)


@pytest.mark.parametrize("name", [name for name in MENU if name != "supervised"])
def test_targets_of_an_extendable_algorithm_do_not_follow_the_length(name):
    def targets(total_steps: int) -> list[float]:
        task = Task(num_classes=3, num_unlabelled=20, total_steps=total_steps)
        algorithm = algorithm_class(name)(algorithm_settings(AlgorithmConfig(name=name)), task)
        random = torch.Generator().manual_seed(0)
        found = []
        for _ in range(8):
            q = (5 * torch.randn(6, 3, generator=random)).softmax(1)
            made = algorithm.compute_targets(Views(q[:2], q[2:], torch.arange(4)))
            found += [*made.weight.tolist(), float(made.scale)]
        return found

    assert (targets(10) == targets(20)) == algorithm_class(name).extendable


def test_fixmatch_counts_confidence_from_its_threshold_on():
    algorithm = make("fixmatch", threshold=0.75)
    q = torch.tensor([[0.75, 0.25, 0.0], [0.2, 0.7, 0.1], [0.0, 0.1, 0.9]])
    targets = algorithm.compute_targets(Views(q, q, torch.arange(3)))
    assert targets.weight.tolist() == [1, 0, 1]
    assert targets.target.tolist() == [0, 1, 2]
    assert FixMatch.Settings().threshold == 0.95


def test_pseudo_labels_loss_rises_over_its_share_of_the_training():
    algorithm = make("pseudo_label", warmup_share=0.4)  # 4 of 10 steps
    q = torch.tensor([[0.97, 0.02, 0.01]])
    scales = [float(algorithm.compute_targets(Views(q, q, torch.arange(1))).scale) for _ in range(6)]
    assert scales == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1])
    assert PseudoLabel.consistency_view == "weak"


def test_pseudo_labels_student_is_the_weak_view_itself():
    algorithm = make("pseudo_label")
    algorithm.steps.fill_(100)
    model = FixedLogits(logits_of([0.2, 0.4, 0.4]), logits_of([0.96, 0.03, 0.01], [0.5, 0.4, 0.1]))
    batches = {"labelled": make_batch(1, [2]), "unlabelled": make_batch(2, first_seed=9)}
    loss, metrics = make_objective(algorithm)(model, batches)
    assert metrics["unlabelled_loss"].item() == pytest.approx(-math.log(0.96) / 2)
    assert loss.item() == pytest.approx(-math.log(0.4) - math.log(0.96) / 2)


def test_supervised_uses_the_labelled_batch_alone():
    model = FixedLogits(logits_of([0.2, 0.8], [0.5, 0.5]))
    loss, metrics = make_objective(make("supervised"))(model, {"labelled": make_batch(2, [1, 0])})
    assert loss.item() == pytest.approx(-(math.log(0.8) + math.log(0.5)) / 2)
    assert set(metrics) == {"loss", "labelled_loss"}
    assert Supervised.consistency_view == "none"
    config = ClassifierConfig(algorithm=AlgorithmConfig(name="supervised"), labelled_batch=32, unlabelled_batch=64)
    assert images_per_step(config) == 32


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"name": "fixmach"}, "did you mean 'fixmatch'?"),
        ({"name": "fixmatch", "treshold": 0.9}, "did you mean 'threshold'?"),
        ({"name": "fixmatch", "threshold": 2}, "threshold = 2 is not allowed"),
        ({"name": "fixmatch", "threshold": "high"}, "threshold = 'high' is not allowed"),
        ({"name": "supervised", "threshold": 0.9}, "no settings besides its name"),
        ({"name": "freematch", "statistics_momentum": float("nan")}, "statistics_momentum = nan is not allowed"),
    ],
)
def test_mistakes_in_an_algorithms_settings_are_told(settings, told):
    with pytest.raises(UserError) as caught:
        algorithm_settings(AlgorithmConfig(**settings), "stage1.algorithm")
    assert told in str(caught.value)
    assert "stage1.algorithm" in str(caught.value)


def test_another_algorithm_drops_the_settings_of_the_one_before():
    config = load_config(None, ["preset=digits", "stage1.algorithm.name=fixmatch", "stage3.algorithm.threshold=0.8"])
    assert config.stage1.algorithm.model_dump() == {"name": "fixmatch"}
    assert config.stage3.algorithm.model_dump() == {"name": "fixmatch", "threshold": 0.8}
    same = load_config(None, ["preset=digits", "stage1.algorithm.fairness_weight=0"])
    assert same.stage1.algorithm.model_dump() == {
        "name": "freematch",
        "statistics_momentum": 0.99,
        "fairness_weight": 0,
    }
