"""A whole run on Ray measures pseudo images in the features of a network that a path names.

Its figures are those of a direct computation: the images are read from the shards again, one by one, and the figures
follow from all features at once, in NumPy.
"""

import re

import numpy as np
import pytest
import torch
from direct_support import direct_support
from encoder_folders import save_dinov2
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from tiny_runs import artifact, described, run_all
from torch.nn.functional import interpolate

from dpt_ray.core.models.inception import Inception
from dpt_ray.data.images.decoding import ImageForm, decode_image
from dpt_ray.data.loading.shard_samples import read_shard_samples
from dpt_ray.data.shards.index import read_index
from dpt_ray.networks.pretrained.encoders import open_encoder
from dpt_ray.pipeline.artifacts.evaluation import read_metrics
from tests.newcomer.photographs import write_photographs

SIDE, PER_CLASS = 16, 14


@pytest.fixture(scope="module")
def small(tmp_path_factory, connect_ray):
    """The root of results and the settings of a run on 70 photographs of 5 classes."""
    connect_ray()
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder / "photos", PER_CLASS)
    settings = [
        f"data.train={folder / 'photos'}",
        "data.test=null",
        "data.channels=3",
        f"data.image_size={SIDE}",
        "data.num_classes=null",
        "data.images_per_shard=20",
        "labels.per_class=4",
        "stage1.images=640",
        "stage2.images=640",
        "stage2.model.patch_size=4",
        "stage3.images=640",
        "sampling.per_class=11",
        "sampling.steps=3",
        "evaluation.generation=true",
    ]
    return folder / "results", settings


def features_of(data, compute) -> np.ndarray:
    """The features of all images of an artifact, float64 (N, D), in the order of their keys."""
    found = {}
    for shard in read_index(data.url).shards:
        for sample in read_shard_samples(shard):
            pixels = decode_image(sample.image_bytes(shard.url), ImageForm(SIDE, 3), shard.url)
            found[sample.key] = compute(torch.from_numpy(pixels)[None])[0].numpy().astype(np.float64)
    return np.stack([found[key] for key in sorted(found)])


def frechet(real: np.ndarray, pseudo: np.ndarray) -> float:
    """The squared Fréchet distance of the Gaussians of two sets of features (Heusel et al. 2017, equation 6)."""
    covariances = np.cov(real, rowvar=False), np.cov(pseudo, rowvar=False)
    root = sqrtm(covariances[0] @ covariances[1])
    means = real.mean(0) - pseudo.mean(0)
    return float(means @ means + np.trace(covariances[0] + covariances[1] - 2 * np.real(root)))


def kernel(real: np.ndarray, pseudo: np.ndarray) -> float:
    """The unbiased squared discrepancy of all images for the kernel (x.y / D + 1)^3."""

    def values(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def of_others(a: np.ndarray) -> float:
        return float((values(a, a).sum() - np.trace(values(a, a))) / (len(a) * (len(a) - 1)))

    return of_others(real) + of_others(pseudo) - 2 * float(values(real, pseudo).mean())


def check(root, settings, compute) -> None:
    """Compare the figures of a finished run with a direct computation."""
    run = described(root, *settings)[1]
    real, pseudo, held_out = (
        features_of(artifact(root, step), compute) for step in (run.train_data, run.pseudo_images, run.test_data)
    )
    found = read_metrics(artifact(root, run.evaluation)).generation
    assert found is not None
    assert (found.real_images, found.pseudo_images, found.held_out_sample) == (len(real), len(pseudo), len(held_out))
    assert len(pseudo) == 55
    assert found.distance == pytest.approx(frechet(real, pseudo), rel=1e-3)
    assert found.support is not None
    mine = found.support.precision, found.support.recall, found.support.density, found.support.coverage
    assert mine == pytest.approx(direct_support(real, pseudo), abs=1e-9)
    assert found.memorisation is not None
    nearest = [np.median(cdist(rows, real).min(1)) for rows in (pseudo, held_out)]
    assert found.memorisation.median_ratio == pytest.approx(nearest[0] / nearest[1], rel=1e-4)
    whole = kernel(real, pseudo)  # each subset has all 55 images
    assert found.kernel_distance.mean == pytest.approx(whole, rel=1e-4)


@pytest.mark.slow
def test_a_vision_transformer_of_a_folder(small, tmp_path_factory, capsys):
    root, settings = small
    folder = save_dinov2(tmp_path_factory.mktemp("encoder") / "tiny-dinov2")
    settings = [*settings, "name=dinov2", f"evaluation.network={folder}", "evaluation.encoder_size=8"]
    assert run_all(root, *settings) == 0
    printed = capsys.readouterr().out
    assert re.search(
        r"\nFréchet distance +\S+ +features of tiny-dinov2, 55 pseudo images against 55 training images", printed
    ), printed
    assert "FID" not in printed  # it is another network
    encoder = open_encoder(folder, crop=8, blocks=1)

    def compute(images: torch.Tensor) -> torch.Tensor:
        resized = interpolate(images.float(), (8, 8), mode="bicubic", antialias=True)
        return encoder(resized.round().clamp(0, 255).byte())

    check(root, settings, compute)


@pytest.mark.slow  # Inception-v3 reads 124 images of 299 pixels twice
def test_inception_in_the_format_of_the_published_weights(small, tmp_path, capsys):
    root, settings = small
    torch.manual_seed(0)
    weights = tmp_path / "weights.pth"
    inception = Inception().eval()
    torch.save(inception.state_dict(), weights)
    settings = [
        *settings,
        "name=inception",
        "evaluation.network=inception",
        f"evaluation.inception={tmp_path}/weights.pth",
    ]
    assert run_all(root, *settings) == 0
    printed = capsys.readouterr().out
    assert "Inception-v3, weights" in printed
    assert " FID " not in printed  # the weights are not the published ones
    check(root, settings, lambda images: inception(images).pooled)
