"""Which images are chosen to be labelled."""

import numpy as np
import pytest
import torch

from dpt_ray.core.probe.coverage import coverage_points, farthest_images, typical_images, uncertain_images

GROUPS = 6


@pytest.fixture(scope="module")
def groups() -> tuple[torch.Tensor, np.ndarray]:
    """Groups of different sizes around far centres, with an outlier in each; and the group of each image."""
    random = torch.Generator().manual_seed(0)
    sizes = [40 - 5 * number for number in range(GROUPS)]
    group = np.repeat(np.arange(GROUPS), sizes)
    features = 4 * torch.eye(GROUPS, 12)[group] + 0.3 * torch.randn(len(group), 12, generator=random)
    outliers = np.cumsum([0, *sizes[:-1]])
    features[outliers] += 1.5 * torch.randn(GROUPS, 12, generator=random)
    return coverage_points(lambda: features.split(17)), group


def test_points_have_length_one_and_do_not_depend_on_blocks(groups):
    features = torch.randn(50, 80, generator=torch.Generator().manual_seed(1))
    points = coverage_points(lambda: [features])
    assert points.shape == (50, 50)
    torch.testing.assert_close(points.norm(dim=1), torch.ones(50))
    torch.testing.assert_close(coverage_points(lambda: features.split(7)), points, rtol=1e-3, atol=1e-4)


def test_every_group_gives_its_typical_image_the_largest_first(groups):
    points, group = groups
    chosen = typical_images(points, GROUPS, [])
    assert group[chosen].tolist() == list(range(GROUPS))
    for image in chosen:
        members = points[torch.from_numpy(np.flatnonzero(group == group[image]))]
        assert points[image] @ members.mean(0) > (members @ members.mean(0)).median()


def test_labelled_groups_are_covered_and_not_chosen_again(groups):
    points, group = groups
    labelled = [int(np.flatnonzero(group == number)[1]) for number in (0, 2)]
    chosen = typical_images(points, GROUPS - 2, labelled)
    assert sorted(group[chosen]) == [1, 3, 4, 5]
    assert not set(chosen) & set(labelled)


def test_all_images_can_be_chosen_and_no_more(groups):
    points, _ = groups
    few = points[:7]
    for choose in (typical_images, farthest_images):
        assert sorted([*choose(few, 6, [3]), 3]) == list(range(7))
        with pytest.raises(ValueError, match="7 images of 7, of which 1"):
            choose(few, 7, [3])


def test_the_farthest_images_are_those_of_a_direct_search(groups):
    points, _ = groups
    chosen = farthest_images(points, 5, [0])
    seen = [0]
    for image in chosen:
        similarity = (points @ points[seen].T).max(1).values
        assert similarity[image] == pytest.approx(similarity.min().item(), abs=1e-6)
        seen.append(int(image))


def test_uncertain_images_are_between_classes_and_apart_from_each_other(groups):
    points, group = groups
    random = np.random.default_rng(0)
    probabilities = np.full((len(group), 3), 0.05)
    probabilities[:, 0] = 0.9
    unsure = np.flatnonzero((group == 1) | (group == 3))
    probabilities[unsure] = [0.45, 0.45, 0.1]
    probabilities[unsure, 0] += 0.01 * random.random(len(unsure))
    chosen = uncertain_images(points, probabilities, 2, [int(unsure[0])])
    assert len(set(chosen)) == 2
    assert set(group[uncertain_images(points, probabilities, GROUPS, [])]) == set(range(GROUPS))
    assert unsure[0] not in chosen
    with pytest.raises(ValueError, match="images of"):
        uncertain_images(points, probabilities, len(group), [0])
