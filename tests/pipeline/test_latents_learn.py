"""A generator on the latents of an autoencoder that knows digits draws digits of the class that is asked for."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from sklearn.datasets import load_digits
from tiny_runs import CONFIG

from dpt_ray.cli.job import run_job
from dpt_ray.config.load import load_config
from dpt_ray.pipeline import graph
from dpt_ray.pipeline.artifacts.evaluation import read_metrics
from dpt_ray.pipeline.dpt import build

SCALED_DEVIATION = 0.5
"""What EDM's process expects of clean images."""


def train_autoencoder(folder: Path, steps: int = 800) -> float:
    """Train an AutoencoderKL on digits without labels, save it, and return the root of its mean squared error."""
    torch.manual_seed(0)
    model = AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 32),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    )
    images = torch.from_numpy(load_digits().images).float()[:, None] / 8 - 1
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / steps)
        batch = images[torch.randint(len(images), (64,))]
        posterior = model.encode(batch).latent_dist
        error = (model.decode(posterior.sample()).sample - batch).square().mean()
        optimizer.zero_grad()
        (error + 1e-4 * posterior.kl().mean() / 64).backward()
        optimizer.step()
    with torch.inference_mode():
        means = model.encode(images).latent_dist.mean
        model.register_to_config(scaling_factor=SCALED_DEVIATION / float(means.std()))
        error = (model.decode(means).sample - images).square().mean().sqrt()
    model.save_pretrained(folder)
    return float(error)


@pytest.mark.slow
def test_pseudo_images_of_a_generator_of_latents_are_digits(local_ray, tmp_path):
    error = train_autoencoder(tmp_path / "autoencoder")
    assert error < 0.12  # of pixels in [-1, 1]
    settings = [
        f"stage2.latents.autoencoder={tmp_path / 'autoencoder'}",
        "stage2.latents.downsampling=2",
        "stage2.model.patch_size=2",
        "stage3.images=1600",
        f"root={tmp_path / 'results'}",
    ]
    words = ["--config", CONFIG, *(word for setting in settings for word in ("--set", setting))]
    assert run_job("test", lambda run: [run.evaluation], arguments=words) == 0
    run = build(load_config(CONFIG, settings))
    found = graph.ArtifactStore(str(tmp_path / "results")).find(run.evaluation.name, run.evaluation.fingerprint)
    metrics = read_metrics(found)
    print(f"autoencoder error {error:.3f}", metrics)
    assert metrics.pseudo_image_agreement > 0.9
    assert metrics.frechet_distance < 5
