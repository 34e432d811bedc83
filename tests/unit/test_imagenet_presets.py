"""The presets for ImageNet are the paper's recipes, constant by constant, and their plans need no network."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dpt_ray.cli.job import run_job
from dpt_ray.config.load import load_config
from dpt_ray.core.diffusion.process_settings import build_process, evaluations_per_image
from dpt_ray.core.models.network_settings import build_generator
from dpt_ray.data.images.decoding import encode_png
from dpt_ray.data.shards.samples import Sample, build_shard
from dpt_ray.pipeline import graph

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = {  # You et al. 2023 and Bao et al. 2023: parameters, steps, label dropout, process, sampler, last convolution
    "imagenet256_l": (286_763_172, 300_000, 0.15, "variance_preserving", "dpm_solver_fast", True),
    "imagenet256_h": (500_832_016, 500_000, 0.1, "discrete_variance_preserving", "dpm_solver_pp_fast", False),
}


@pytest.mark.parametrize(("name", "recipe"), RECIPES.items())
def test_constants(name, recipe):
    config = load_config(None, [f"preset={name}", "data.train=unread", "data.test=unread"])
    parameters, steps, dropout, process, sampler, final_conv = recipe
    stage = config.stage2
    assert stage.images == steps * 1024
    assert stage.batch == 1024
    assert (stage.label_dropout, stage.process, stage.ema_decay, stage.flip) == (dropout, process, 0.9999, True)
    assert (stage.model.final_conv, stage.model.patch_size, stage.canvas(config.data)) == (final_conv, 2, (32, 4))
    optimizer = stage.optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.betas) == ("adamw", 2e-4, (0.99, 0.99))
    assert (optimizer.weight_decay, optimizer.decay_all_parameters) == (0.03, True)
    assert (optimizer.warmup_images, optimizer.schedule, optimizer.gradient_clip) == (5000 * 1024, "constant", None)
    assert (stage.latents.scale, stage.latents.channels, stage.latents.downsampling) == (0.18215, 4, 8)
    assert (config.sampling.sampler, config.sampling.steps, config.sampling.guidance_scale) == (sampler, 50, 0.4)
    assert config.sampling.per_class == 128
    assert evaluations_per_image(config.sampling, build_process(stage)) == 2 * 50
    for classifier in (config.stage1, config.stage3):
        assert classifier.model.name == "linear_probe"
        assert (classifier.probe.resize, classifier.probe.crop, classifier.probe.regularisation) == (256, 224, 0.0025)
    with torch.device("meta"):
        network = build_generator(stage, image_size=32, channels=4, num_classes=1000)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("name", RECIPES)
def test_a_dry_run_plans_all_of_it_without_network(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(graph.connection, "connect", lambda config: pytest.fail("Ray was started"))
    image = encode_png(np.zeros((3, 8, 8), np.uint8))
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "0.tar").write_bytes(build_shard([Sample("a", {"png": image, "cls": b"0"})]))
    words = ["--config", str(CONFIGS / f"{name}.yaml"), "--dry-run", "--set", f"root={tmp_path / 'results'}"]
    words += [word for split in ("train", "test") for word in ("--set", f"data.{split}={tmp_path / split}")]
    words += ["--set", "cluster.workers=1", "--set", "cluster.gpus_per_worker=0"]  # this machine has no GPU
    assert run_job("test", lambda run: run.steps(), arguments=words) == 0
    plan = capsys.readouterr().out
    assert "encoding every image and its mirror image" in plan
    assert f"{RECIPES[name][0]:,} parameters" in plan
    assert "65,536 bytes for each image" in plan
    assert "128,000 images, 100 network evaluations each" in plan
