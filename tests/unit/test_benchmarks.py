"""Benchmarks run, small, and both sides of a comparison do the same work."""

import numpy as np
import pytest
import torch

from dpt_ray.benchmark import augmentation, training
from dpt_ray.benchmark.contest import limited_threads
from dpt_ray.benchmark.probe import make_problem, measure_probe, probe_table
from dpt_ray.config.load import load_config


def test_the_probes_problem_has_the_spectrum_that_it_says():
    x, y = make_problem(4000, 16, 5, decay=1.0)
    assert x.shape == (4000, 16)
    assert y.max() == 4
    torch.testing.assert_close(x.norm(dim=1), torch.ones(4000))
    spectrum = torch.linalg.eigvalsh(x.T @ x / len(x)).flip(0)
    assert spectrum[0] / spectrum[9] == pytest.approx(10, rel=0.5)


def test_the_probes_benchmark_reaches_scikit_learns_objective():
    figures = measure_probe(rows=400, features=16, classes=5, decay=1.5, rounds=1, say=lambda text: None)
    assert [c["our_passes"] is not None for c in figures["comparisons"]] == [True, True]
    assert "| tol=1e-06 |" in probe_table(figures)


def test_both_loops_train_on_whole_steps_and_ours_tells_its_parts():
    config = load_config(None, ["preset=cifar10", "data.train=unread", "data.test=unread"]).stage1
    config = config.model_copy(update={"model": training.MODELS["small_cnn"].model_copy(update={"width": 4})})
    images = np.random.default_rng(0).integers(0, 256, (training.LABELLED + training.UNLABELLED, 3, 32, 32), np.uint8)
    own, parts = training._ours(config, images, "cpu", "float32", False, False)
    assert own(1) == training._plain(config, images, "cpu", "float32", False, False)(1) == 512
    assert set(parts()) == {"step", "feed", "augmentation", "average"}


@pytest.mark.parametrize("contestant", ["_ours", "_pillow", "_kornia"])
def test_every_contestant_augments_all_images(contestant):
    images = np.random.default_rng(0).integers(0, 256, (augmentation.IMAGES, 3, 32, 32), dtype=np.uint8)
    assert getattr(augmentation, contestant)(images)(1) == augmentation.IMAGES


def test_threads_are_limited_for_a_while():
    before = torch.get_num_threads()
    with limited_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
