"""Diffusion in an autoencoder's latents, small: encoded once, joined with labels, drawn anew, decoded."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from autoencoder_folders import save_kl
from tiny_runs import artifact, described, files, run_all

from dpt_ray.config.schema import LatentsConfig
from dpt_ray.data.index import read_index
from dpt_ray.data.networks import Generator
from dpt_ray.data.shards import iter_samples
from dpt_ray.data.sidecars import read_sidecar
from dpt_ray.errors import UserError
from dpt_ray.pipeline import graph

SHORT = ["stage2.images=1600", "stage3.images=1600", "sampling.steps=5", "sampling.per_class=4"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    place = save_kl(tmp_path_factory.mktemp("autoencoder"))
    latents = [f"stage2.latents.autoencoder={place}", "stage2.latents.downsampling=2", "stage2.latents.scale=0.5"]
    return [*SHORT, *latents, "stage2.flip=true", "stage2.model.patch_size=2", "name=latents"]


@pytest.fixture(scope="module")
def latent_run(finished, settings):
    assert run_all(finished, *settings) == 0
    return finished, described(finished, *settings)[1]


def test_every_image_and_its_mirror_image_is_encoded_once(latent_run):
    root, run = latent_run
    made = artifact(root, run.latents)
    index = read_index(artifact(root, run.train_data).url)
    assert made.facts["images"] == index.num_images
    assert (made.facts["form"]["flips"], made.facts["form"]["image_size"]) == (2, 8)
    sidecars = [read_sidecar(made.file("latents", f"{number:05d}.parquet")) for number in range(len(index.shards))]
    assert [len(sidecar["key"]) for sidecar in sidecars] == [shard.samples for shard in index.shards]
    moments = np.concatenate([sidecar["moments"] for sidecar in sidecars]).reshape(-1, 2, 8, 4, 4)
    assert made.facts["standard_deviation"] == pytest.approx(moments[:, 0, :4].std(), rel=1e-5)
