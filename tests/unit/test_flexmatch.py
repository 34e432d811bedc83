"""FlexMatch's thresholds on hand-made memories."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpt_ray.core.semi_supervised.algorithm import Task, Views
from dpt_ray.core.semi_supervised.algorithms.flexmatch import UNLEARNED, FlexMatch


def make_flexmatch(num_unlabelled: int = 10, threshold: float = 0.9) -> FlexMatch:
    return FlexMatch(FlexMatch.Settings(threshold=threshold), Task(3, num_unlabelled, total_steps=10))


def targets_of(algorithm: FlexMatch, q: list[list[float]], index: list[int]):
    probabilities = torch.tensor(q)
    return algorithm.compute_targets(Views(probabilities, probabilities, torch.tensor(index)))


def test_every_image_counts_before_anything_is_learned():
    algorithm = make_flexmatch()
    assert algorithm.thresholds().tolist() == [0, 0, 0]
    assert targets_of(algorithm, [[0.34, 0.33, 0.33]], [0]).weight.tolist() == [1]


def test_thresholds_while_most_images_are_unlearned():
    algorithm = make_flexmatch()
    algorithm.learned[:4] = torch.tensor([0, 0, 0, 1])  # 3, 1 and 0 learned, 6 unlearned
    beta = torch.tensor([3 / 6, 1 / 6, 0.0])
    torch.testing.assert_close(algorithm.thresholds(), 0.9 * beta / (2 - beta))


def test_thresholds_once_the_best_class_outnumbers_the_unlearned():
    algorithm = make_flexmatch()
    algorithm.learned[:8] = torch.tensor([0, 0, 0, 0, 0, 1, 1, 2])  # 5, 2, 1 and 2 unlearned
    beta = torch.tensor([1.0, 2 / 5, 1 / 5])
    torch.testing.assert_close(algorithm.thresholds(), 0.9 * beta / (2 - beta))
    assert algorithm.thresholds()[0].item() == pytest.approx(0.9)


def test_confident_predictions_are_remembered_and_others_leave_what_was_known():
    algorithm = make_flexmatch()
    targets_of(algorithm, [[0.95, 0.03, 0.02], [0.1, 0.2, 0.7]], [4, 7])
    assert algorithm.learned.tolist() == [UNLEARNED] * 4 + [0] + [UNLEARNED] * 5
    targets_of(algorithm, [[0.5, 0.3, 0.2], [0.02, 0.95, 0.03]], [4, 7])  # image 4 is unsure now
    assert algorithm.learned[[4, 7]].tolist() == [0, 1]
    targets_of(algorithm, [[0.0, 0.0, 1.0]], [4])  # another confident prediction takes its place
    assert algorithm.learned[[4, 7]].tolist() == [2, 1]


@given(st.lists(st.lists(st.tuples(st.integers(0, 4), st.integers(UNLEARNED, 2)), min_size=1, max_size=9), max_size=4))
@settings(deadline=None)
def test_an_image_that_occurs_twice_in_a_step_keeps_its_last_confident_prediction(steps):
    algorithm, memory = make_flexmatch(num_unlabelled=5), [UNLEARNED] * 5
    for rows in steps:
        algorithm._remember(torch.tensor([image for image, _ in rows]), torch.tensor([label for _, label in rows]))
        for image, label in rows:
            memory[image] = memory[image] if label == UNLEARNED else label
        assert algorithm.learned.tolist() == memory
        assert algorithm.counts.tolist() == [memory.count(label) for label in range(UNLEARNED, 3)]


def test_the_mask_is_that_of_the_memory_before_the_step():
    algorithm = make_flexmatch(num_unlabelled=2)
    targets = targets_of(algorithm, [[0.95, 0.03, 0.02], [0.4, 0.3, 0.3]], [0, 1])
    assert targets.weight.tolist() == [1, 1]
    targets = targets_of(algorithm, [[0.95, 0.03, 0.02], [0.4, 0.3, 0.3]], [0, 1])
    assert targets.weight.tolist() == [1, 0]  # class 0 is learned as far as any: its threshold is 0.9 now
    targets = targets_of(algorithm, [[0.3, 0.4, 0.3]], [1])
    assert targets.weight.tolist() == [1]  # class 1 is not learned: its threshold is 0


def test_the_memory_is_in_the_checkpoint():
    assert set(make_flexmatch().state_dict()) == {"learned"}


def counted(algorithm: FlexMatch) -> list[int]:
    return (algorithm.learned + 1).bincount(minlength=4).tolist()


def test_counts_follow_the_memory_through_steps_and_checkpoints():
    """A step changes them for its own images alone, also where an image is in it twice."""
    random = torch.Generator().manual_seed(0)
    algorithm = make_flexmatch(num_unlabelled=50)
    for step in range(40):
        q = (6 * torch.rand(16, 3, generator=random)).softmax(dim=1)
        index = torch.randint(50, (16,), generator=random)
        algorithm.compute_targets(Views(q, q, index))
        assert algorithm.counts.tolist() == counted(algorithm)
        if step == 20:
            other = make_flexmatch(num_unlabelled=50)
            other.thresholds()  # counts an empty memory
            other.load_state_dict(algorithm.state_dict())
            torch.testing.assert_close(other.thresholds(), algorithm.thresholds())
            algorithm = other
    assert counted(algorithm)[0] < 50
