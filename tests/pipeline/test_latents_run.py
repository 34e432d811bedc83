"""Diffusion in an autoencoder's latents, small: encoded once, joined with any labels, decoded where they are drawn."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from autoencoder_folders import save_kl
from tiny_runs import arguments, artifact, described, files

from dpt_ray.cli.job import run_job
from dpt_ray.data.images.decoding import ImageForm, decode_image
from dpt_ray.data.shards.archive_samples import iter_samples
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.sidecars import read_sidecar
from dpt_ray.errors import UserError
from dpt_ray.networks.generator import Generator
from dpt_ray.pipeline import graph

SHORT = ["stage2.images=1600", "sampling.steps=5", "sampling.per_class=4"]


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    return Path(save_kl(tmp_path_factory.mktemp("autoencoder")))


@pytest.fixture(scope="module")
def settings(autoencoder):
    latents = [f"stage2.latents.autoencoder={autoencoder}", "stage2.latents.downsampling=2", "stage2.latents.scale=0.5"]
    return [*SHORT, *latents, "stage2.flip=true", "stage2.model.patch_size=2", "name=latents"]


@pytest.fixture(scope="module")
def latent_run(finished, settings):
    """The tiny run with another stage 2, up to its pseudo images."""
    assert run_job("test", lambda run: [run.pseudo_images], arguments=arguments(finished, *settings)) == 0
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
    assert artifact(root, run.generator).manifest["parents"]["latents"]["fingerprint"] == run.latents.fingerprint


def test_pseudo_images_are_decoded_latents_of_the_generator(latent_run):
    root, run = latent_run
    drawn = {}
    for name, data in files(artifact(root, run.pseudo_images), "shards/*.tar").items():
        for sample in iter_samples(data, name):
            drawn[sample.key] = decode_image(sample.files["png"], ImageForm(8, 1), name)
    assert sorted(drawn) == [f"{label:05d}-{index:07d}" for label in range(10) for index in range(4)]
    generator = Generator(artifact(root, run.generator).file("network.safetensors"))
    assert generator.image_shape == (4, 4, 4)
    torch.set_num_threads(1)  # as the workers have it
    config, _ = described(root, *SHORT)
    images = generator.draw(config.sampling, run.pseudo_images.settings["seed"], [(3, 0), (3, 1)]).numpy()
    for image, key in zip(images, ["00003-0000000", "00003-0000001"], strict=True):
        assert np.abs(image.astype(int) - drawn[key]).max() <= 1


def test_a_new_label_set_or_scale_encodes_nothing_again(latent_run, settings):
    root, run = latent_run
    store = graph.ArtifactStore(str(root))
    for changed, missing in [
        (["labels.seed=7"], ["labelled subset", "stage 1 classifier", "pseudo-labels", "stage 2 generator"]),
        (["pseudo_labels.top_k=3"], ["pseudo-labels", "stage 2 generator"]),
        (["stage2.latents.scale=0.7"], ["stage 2 generator"]),
        (["stage2.latents.storage=float16"], ["latents of train data", "stage 2 generator"]),
        (["stage2.flip=false"], ["latents of train data", "stage 2 generator"]),
    ]:
        other = described(root, *settings, *changed)[1]
        steps = graph.in_order([other.generator])
        assert [step.title for step in steps if store.find(step.name, step.fingerprint) is None] == missing
    assert run.latents.fingerprint in artifact(root, run.generator).manifest["parents"]["latents"].values()


@pytest.mark.parametrize(
    ("step", "setting", "what"),
    [("generator", "stage2.seed=5", "holds latents"), ("pseudo_images", "sampling.seed=5", "was trained on latents")],
)
def test_an_autoencoder_that_was_changed_in_its_place_is_refused(
    latent_run, settings, autoencoder, tmp_path, step, setting, what
):
    root, _ = latent_run
    config, run = described(root, *settings, setting)
    shutil.copytree(autoencoder, tmp_path / "kept")
    try:
        save_kl(autoencoder, seed=1)
        with pytest.raises(UserError, match=f"{what} of another autoencoder"):
            graph.make_all([getattr(run, step)], graph.ArtifactStore(str(root)), config.cluster, lambda text: None)
    finally:
        shutil.copytree(tmp_path / "kept", autoencoder, dirs_exist_ok=True)
    assert not Path(root, run.generator.name, run.generator.fingerprint, "checkpoints").exists()
