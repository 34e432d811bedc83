"""Clusters of the images of each class: their fit, labels and draws, and a generator that is conditioned on them."""

import numpy as np
import pytest
import torch
from run_in_process import without_ray
from settings_reads import train_here
from test_start_weights import TINY

from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.config.load import load_config
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.core.probe.class_clusters import ClassClusters, cluster_classes, drawn_clusters
from dpt_ray.core.probe.normalisation import normalise_rows
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.data.shards.sidecars import read_sidecar
from dpt_ray.errors import UserError
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.generator import Generator, generator_file
from dpt_ray.networks.start_weights import check_generator, find_weights
from dpt_ray.pipeline.artifacts.predictions import sidecar_urls
from dpt_ray.pipeline.artifacts.store import ArtifactStore
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.execution.cluster_groups import SAMPLED_NUMBERS, sampled_shares
from dpt_ray.pipeline.export_entries import generator_data
from dpt_ray.pipeline.graph import make_all
from dpt_ray.pipeline.network_origin import find_origin

CLUSTERS, CLASSES, DIMENSIONS = 3, 2, 16


def blobs(seed: int, per_cluster: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features (N, D), classes (N,) and the true cluster within its class (N,), in random order."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(CLASSES, CLUSTERS, DIMENSIONS))
    classes = np.repeat(np.arange(CLASSES), CLUSTERS * per_cluster)
    clusters = np.tile(np.repeat(np.arange(CLUSTERS), per_cluster), CLASSES)
    features = centres[classes, clusters] + random.normal(scale=0.1, size=(len(classes), DIMENSIONS))
    order = random.permutation(len(classes))
    return features[order].astype(np.float32), classes[order], clusters[order]


def fitted(features: np.ndarray, classes: np.ndarray, clusters: int = CLUSTERS) -> ClassClusters:
    points = normalise_rows(torch.from_numpy(features)).numpy()
    by_class = {label: points[classes == label] for label in range(CLASSES)}
    return cluster_classes(by_class, classes=CLASSES, clusters=clusters, dimensions=DIMENSIONS, seed=0)


def test_separate_clusters_of_new_images_are_found_within_their_class():
    found = fitted(*blobs(0)[:2])
    features, classes, clusters = blobs(1)
    labels = found.labels(features, classes)
    assert (labels // CLUSTERS == classes).all()
    for label in range(CLASSES):
        pairs = set(zip(labels[classes == label] % CLUSTERS, clusters[classes == label], strict=True))
        assert len(pairs) == CLUSTERS  # one found cluster for each true one


def test_images_without_a_label_get_none():
    features, classes, _ = blobs(0)
    classes[::2] = UNKNOWN_LABEL
    labels = fitted(*blobs(0)[:2]).labels(features, classes)
    assert (labels[::2] == UNKNOWN_LABEL).all()
    assert (labels[1::2] >= 0).all()


def test_classes_of_few_or_equal_images_have_fewer_clusters():
    points = {0: np.eye(2, DIMENSIONS, dtype=np.float32), 1: np.ones((5, DIMENSIONS), np.float32)}
    found = cluster_classes(points, classes=3, clusters=4, dimensions=DIMENSIONS, seed=0)
    assert found.sizes.tolist() == [2, 1, 1]
    random = np.random.default_rng(0).normal(size=(30, DIMENSIONS)).astype(np.float32)
    labels = found.labels(random, np.repeat(np.arange(3), 10))
    assert set(labels[:10]) <= {0, 1}
    assert set(labels[10:20]) == {4}
    assert set(labels[20:]) == {8}


def test_clusters_are_drawn_in_proportion_to_their_images():
    counts = np.array([[0, 3, 1], [0, 0, 0]])
    uniform = (np.arange(1000) + 0.5) / 1000
    drawn = drawn_clusters(counts, np.zeros(1000, np.int64), uniform)
    assert np.bincount(drawn, minlength=3).tolist() == [0, 750, 250]
    assert not drawn_clusters(counts, np.ones(1000, np.int64), uniform).any()


@pytest.mark.parametrize(
    ("images", "dimensions", "share"), [([100, 10], 64, [1, 1]), ([10**6, 0], 64, [1024e-6, 1]), ([10**6], 2**20, None)]
)
def test_the_sample_is_bounded(images, dimensions, share):
    found = sampled_shares(images, 4, dimensions)
    assert (found * images * dimensions).sum() <= SAMPLED_NUMBERS
    assert share is None or np.allclose(found, share)


def generator_of(clusters: int, images: list[list[int]] | None, path: str) -> str:
    config = GeneratorConfig(
        model={"dim": 16, "depth": 2, "heads": 2}, conditioning={"clusters": clusters}, label_dropout=0.5
    )
    state = generator_training(config, image_size=8, channels=1, num_classes=2, seed=0)
    form = {"image_size": 8, "channels": 1, "num_classes": 2}
    with open(path, "wb") as file:
        file.write(generator_file(config, form if images is None else form | {"cluster_images": images}, state))
    return path


def test_a_pseudo_image_of_a_class_has_a_label_of_one_of_its_clusters(tmp_path):
    generator = Generator(generator_of(3, [[0, 5, 0], [1, 0, 1]], str(tmp_path / "generator")))
    assert generator.num_classes == 2
    given: list[int] = []

    def note(network, inputs):
        given.extend(inputs[2].tolist())

    generator.network.register_forward_pre_hook(note)
    wanted = [(label, number) for label in range(2) for number in range(20)]
    images = generator.draw(SamplingConfig(guidance_scale=1, steps=1), seed=0, wanted=wanted)
    assert images.shape == (40, 1, 8, 8)
    null = 2 * 3
    conditioned, free = [label for label in given if label != null], given.count(null)
    assert len(conditioned) == free
    assert set(conditioned) == {1, 3, 5}
    alone = generator.draw(SamplingConfig(guidance_scale=1, steps=1), seed=0, wanted=wanted[7:8])
    assert (alone[0].int() - images[7].int()).abs().max() <= 1


@pytest.mark.parametrize("images", [None, [[1, 2, 3]], [[1, 2], [3, 4]], [[1, 2, -3], [1, 1, 1]], "many"])
def test_a_file_with_other_clusters_is_refused(tmp_path, images):
    with pytest.raises(UserError):
        Generator(generator_of(3, images, str(tmp_path / "generator")))


def test_training_does_not_start_from_weights_of_other_clusters(tmp_path):
    found = find_weights(generator_of(3, [[1] * 3] * 2, str(tmp_path / "generator")), "generator")
    config = GeneratorConfig(model={"dim": 16, "depth": 2, "heads": 2})
    with pytest.raises(UserError, match=r"stage2\.conditioning\.clusters 3 and not 1"):
        check_generator(found, config, 8, 1)


def test_a_run_trains_its_generator_on_classes_and_clusters(tmp_path, monkeypatch):
    without_ray(monkeypatch)
    train_here(monkeypatch)
    config = load_config(None, TINY, [f"root={tmp_path}", "stage2.conditioning.clusters=2"])
    run = build(config)
    assert run.pretraining is None
    made = make_all([run.generator], ArtifactStore(config.root), config.cluster, print)
    facts = made[run.conditioning].facts
    urls = sidecar_urls(made[run.pseudo_labels])
    for given, url in zip(urls, sorted((tmp_path / "conditioning_labels").glob("*/predictions/*")), strict=True):
        labels, classes = read_sidecar(str(url), ["label"]), read_sidecar(given, ["label"])
        assert labels["key"] == classes["key"]
        assert (labels["label"] // 2 == classes["label"]).all()
    per_class = np.reshape(facts["images_of_labels"], (10, 2)).sum(1)
    assert per_class.tolist() == list(made[run.pseudo_labels].facts["predicted_per_class"])
    told = generator_data(find_origin(made[run.generator].url, "generator", "generator"))
    assert told["labels"].startswith("pseudo-labels of all images, changed by stage2.conditioning, by ")
    assert told["labels_per_class"] == per_class.tolist()
    generator = Generator(made[run.generator].file(NETWORK_FILE))
    assert generator.num_classes == 10
    assert generator.network.label_embedding.weight.shape[0] == 21


def test_without_clusters_addresses_stay():
    plain, one = (build(load_config(None, TINY, settings)) for settings in ([], ["stage2.conditioning.clusters=1"]))
    assert plain.generator.address == one.generator.address
