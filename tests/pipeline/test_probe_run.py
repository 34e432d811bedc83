"""The paper's ImageNet recipe, small: features of a frozen encoder, a probe in stages 1 and 3."""

import numpy as np
import pytest
import torch
from encoder_folders import save_msn
from tiny_runs import artifact, described, files, run_all

from dpt_ray.core.probe.normalisation import normalise_rows
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.sidecars import read_sidecar
from dpt_ray.networks.probe import Probe
from dpt_ray.pipeline.artifacts.evaluation import read_metrics
from dpt_ray.pipeline.artifacts.features import features_urls, read_features
from dpt_ray.pipeline.artifacts.labelled import read_labelled


@pytest.fixture(scope="module")
def probe_settings(tmp_path_factory):
    encoder = save_msn(tmp_path_factory.mktemp("encoder"))
    settings = ["stage1.model.name=linear_probe", f"stage1.probe.encoder={encoder}", "name=probe"]
    return [*settings, "stage1.probe.resize=8", "stage1.probe.crop=8"]


@pytest.fixture(scope="module")
def probed(finished, probe_settings):
    assert run_all(finished, *probe_settings) == 0
    return finished, described(finished, *probe_settings)[1]


def test_stage_1_is_fitted_to_the_labelled_images_alone(probed):
    root, run = probed
    facts = artifact(root, run.classifier).facts
    assert facts["rows"] == 40
    assert facts["converged"]
    assert facts["temperature"] != 1.0  # four labels a class leave some to calibrate with
    assert artifact(root, run.retrained).facts["rows"] == 40 + 120


def test_labels_are_the_fitted_probes_of_normalised_features(probed):
    root, run = probed
    probe = Probe(artifact(root, run.classifier).file("network.safetensors"))
    encoded = artifact(root, run.pseudo_labels.parents["encoded"])
    features = torch.from_numpy(np.array(read_features(features_urls(encoded)[0])))
    labels = read_sidecar(artifact(root, run.pseudo_labels).file("predictions", "00000.parquet"))
    probabilities = probe.classify(features)
    assert labels["label"].tolist() == probabilities.argmax(1).tolist()
    torch.testing.assert_close(torch.from_numpy(np.array(labels["confidence"])), probabilities.max(1).values)
    logits = normalise_rows(features) @ probe.head.weight.detach().T / probe.temperature
    torch.testing.assert_close(probabilities, logits.softmax(1))


def test_the_probe_fits_its_labelled_images_and_evaluation_has_all_figures(probed):
    root, run = probed
    index = read_index(artifact(root, run.train_data).url)
    predicted = {}
    for number in range(len(index.shards)):
        sidecar = read_sidecar(artifact(root, run.pseudo_labels).file("predictions", f"{number:05d}.parquet"))
        predicted |= dict(zip(sidecar["key"], sidecar["label"].tolist(), strict=True))
    chosen = read_labelled(artifact(root, run.labelled))
    assert np.mean([predicted[image.key] == image.label for image in chosen]) >= 0.9
    metrics = read_metrics(artifact(root, run.evaluation))
    assert metrics.stage1_accuracy > 0.3  # a random encoder still tells digits apart better than chance
    assert metrics.frechet_distance > 0


def test_features_are_made_once_for_both_stages(probed):
    root, run = probed
    encoded = run.classifier.parents["encoded"]
    assert run.retrained.parents["encoded"].fingerprint == encoded.fingerprint
    assert run.pseudo_labels.parents["encoded"].fingerprint == encoded.fingerprint
    assert len(files(artifact(root, encoded), "features/*.parquet")) == 6


def test_a_probe_classifies_images_without_ray(probed):
    root, run = probed
    probe = Probe(artifact(root, run.retrained).file("network.safetensors"))
    images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    probabilities, features = probe(images)
    assert features.shape == (2, 16)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2))


@pytest.mark.slow  # further steps of a whole run on Ray; `tests/unit/test_probe_leak.py` fits all heads without
def test_heads_and_drawn_labels_run_on_ray_from_end_to_end(finished, probe_settings):
    more = [
        "name=heads",
        "stage1.probe.head=propagation",
        "stage3.probe.head=mixture",
        "stage2.conditioning={labels: drawn, confidence: true}",
    ]
    assert run_all(finished, *probe_settings, *more) == 0
    run = described(finished, *probe_settings, *more)[1]
    facts = artifact(finished, run.classifier).facts
    assert (facts["labelled"], facts["unreached"]) == (40, 0)
    labels = read_sidecar(artifact(finished, run.pseudo_labels).file("predictions", "00000.parquet"))
    spread = read_sidecar(artifact(finished, run.classifier).file("transduced", "00000.parquet"))
    assert labels["label"].tolist() == spread["probabilities"].argmax(1).tolist()
    assert artifact(finished, run.retrained).facts["labelled"] == 40 + 120
    metrics = read_metrics(artifact(finished, run.evaluation))
    assert metrics.stage1_accuracy > 0.3
    assert metrics.stage3_accuracy > 0.2
