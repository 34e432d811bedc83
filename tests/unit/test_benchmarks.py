"""Benchmarks run, small, and both sides of a comparison do the same work."""

import runpy
import sys
from functools import wraps
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest
import torch

from dpt_ray.benchmark import augmentation_speed as augmentation
from dpt_ray.benchmark import training_speed as training
from dpt_ray.benchmark.contest import limited_threads
from dpt_ray.benchmark.plain_classifier import plain_loop
from dpt_ray.benchmark.probe_speed import make_problem, measure_probe, probe_table
from dpt_ray.cli.benchmark import MEASURES
from dpt_ray.config.load import load_config


def test_the_probes_problem_has_the_spectrum_that_it_says():
    x, y = make_problem(4000, 16, 5, decay=1.0)
    assert x.shape == (4000, 16)
    assert y.max() == 4
    torch.testing.assert_close(x.norm(dim=1), torch.ones(4000))
    spectrum = torch.linalg.eigvalsh(x.T @ x / len(x)).flip(0)
    assert spectrum[0] / spectrum[9] == pytest.approx(10, rel=0.5)


def test_the_probes_benchmark_reaches_scikit_learns_objective():
    figures = measure_probe(rows=400, features=16, classes=5, decay=1.5, rounds=1, device="cpu", say=lambda text: None)
    assert [c.our_passes is not None for c in figures.comparisons] == [True, True]
    assert "| tol=1e-06 |" in probe_table(figures)


def test_both_loops_train_on_whole_steps_and_ours_tells_its_parts():
    config = load_config(None, ["preset=cifar10", "data.train=unread", "data.test=unread"]).stage1
    config = config.model_copy(update={"model": training.MODELS["small_cnn"].model_copy(update={"width": 4})})
    images = np.random.default_rng(0).integers(0, 256, (training.LABELLED + training.UNLABELLED, 3, 32, 32), np.uint8)
    own, parts = training._ours(config, images, "cpu", "float32", False, False)
    assert own(1) == plain_loop(config, images, "cpu", "float32", False, False)(1) == 512
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


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("data", ["data", "--shards", "photos", "--size", "64"], {"shards": "photos", "image_size": 64, "rounds": 5}),
        ("train classifier", ["train", "--compile"], {"compiled": True, "model": "wide_resnet"}),
        ("train generator", ["train", "--stage", "generator", "--ray-steps", "9"], {"compiled": False, "ray_steps": 9}),
        ("sample", ["sample", "--rounds", "2"], {"guidance_scale": 0.4, "rounds": 2}),
        ("augment", ["augment", "--seconds", "0.5"], {"seconds": 0.5}),
        ("probe", ["probe", "--decay", "2"], {"decay": 2.0}),
        ("scale", ["scale", "--images", "1e5,2000"], {"images": (100_000, 2000), "classes": (10, 1000)}),
    ],
)
def test_a_benchmark_takes_its_parameters_from_the_command_line(name, arguments, told, tmp_path, monkeypatch, capsys):
    options = [*arguments, "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *options])
    measure, table = (f"dpt_ray.benchmark.{function}" for function in MEASURES[name])
    given = {}

    @wraps(resolve_name(measure))
    def measured(**parameters):
        given.update(parameters)
        return {"figure": 1}

    monkeypatch.setattr(measure.replace(":", "."), measured)
    monkeypatch.setattr(table.replace(":", "."), lambda figures: f"figures: {figures}")
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(Path(__file__).parents[2] / "jobs" / "benchmark.py"), run_name="__main__")
    assert ended.value.code == 0
    assert told.items() <= given.items()
    assert (tmp_path / "out.md").read_text() == capsys.readouterr().out == "figures: {'figure': 1}\n"
