"""What stage 1 says of every image: top classes, confidence over views, balanced labels, classes without an image."""

from pathlib import Path

import numpy as np
import pytest
from tiny_runs import artifact, described, run_all

from dpt_ray.data.shards.index import read_index
from dpt_ray.pipeline import graph
from dpt_ray.pipeline.artifacts.evaluation import read_metrics
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.artifacts.predictions import read_predictions

SHORT = ["stage2.images=1600", "stage3.images=1600", "sampling.steps=5"]


def columns(root: Path, step, *names: str) -> dict[str, np.ndarray]:
    """A step's predictions for all images, by column."""
    sidecars = list(read_predictions(artifact(root, step), *names))
    return {name: np.concatenate([sidecar[name] for sidecar in sidecars]) for name in names}


def test_top_classes_begin_with_the_label(finished):
    _, run = described(finished)
    made = columns(finished, run.pseudo_labels, "label", "confidence", "top_classes", "top_probabilities")
    assert made["top_classes"].shape[1] == 5
    assert (made["top_classes"][:, 0] == made["label"]).all()
    assert (np.diff(made["top_probabilities"], axis=1) <= 0).all()
    assert (made["top_probabilities"].sum(1) <= 1 + 1e-5).all()
    np.testing.assert_array_equal(made["top_probabilities"][:, 0], made["confidence"])
    metrics = read_metrics(artifact(finished, run.evaluation))
    assert 0 <= metrics.pseudo_label_calibration_error <= 1
    labelled = {image.key for image in read_labelled(artifact(finished, run.labelled))}
    sidecars = read_predictions(artifact(finished, run.pseudo_labels), "confidence")
    unlabelled = [c for s in sidecars for key, c in zip(s["key"], s["confidence"], strict=True) if key not in labelled]
    assert metrics.pseudo_label_mean_confidence == pytest.approx(np.mean(unlabelled), abs=1e-5)
    assert sum(bin.images for bin in metrics.reliability) == len(made["label"]) - 40


def test_views_change_confidence_and_no_label(finished):
    settings = ["pseudo_labels.views=3", "pseudo_labels.top_k=20"]
    config, run = described(finished, *settings)
    graph.make_all([run.pseudo_labels], graph.ArtifactStore(config.root), config.cluster, lambda text: None)
    _, plain_run = described(finished)
    plain = columns(finished, plain_run.pseudo_labels, "label", "confidence")
    viewed = columns(finished, run.pseudo_labels, "label", "confidence", "top_classes")
    np.testing.assert_array_equal(viewed["label"], plain["label"])
    assert viewed["top_classes"].shape[1] == 10  # no more than there are classes
    assert viewed["confidence"].mean() < plain["confidence"].mean()


def test_balanced_labels_follow_the_shares_and_stand_in_for_the_others(finished):
    config, balanced = described(finished, "pseudo_labels.assignment=balanced", "pseudo_labels.sharpness=10")
    graph.make_all([balanced.pseudo_labels], graph.ArtifactStore(config.root), config.cluster, lambda text: None)
    facts = artifact(finished, balanced.pseudo_labels).facts
    counts = np.array(facts["predicted_per_class"])
    assert counts.sum() == read_index(artifact(finished, balanced.train_data).url).num_images
    assert counts.max() - counts.min() < 0.1 * counts.mean()
    argmax = artifact(finished, balanced.pseudo_labels.parents["predictions"]).facts["predicted_per_class"]
    assert np.ptp(argmax) > np.ptp(counts)
    assert facts["moved"] > 0
    assert balanced.generator.parents["pseudo_labels"] is balanced.pseudo_labels
    labels = columns(finished, balanced.pseudo_labels, "label", "confidence", "top_classes", "top_probabilities")
    assert np.bincount(labels["label"]).tolist() == counts.tolist()
    assert facts["converged"]
    assert facts["largest_miss"] == pytest.approx(abs(counts / counts.mean() - 1).max())


def test_balanced_labels_have_the_confidence_averaged_over_views(finished):
    config, run = described(finished, "pseudo_labels.assignment=balanced", "pseudo_labels.views=2")
    graph.make_all([run.pseudo_labels], graph.ArtifactStore(config.root), config.cluster, lambda text: None)
    given = columns(finished, run.pseudo_labels.parents["predictions"], "label", "confidence", "probabilities")
    made = columns(finished, run.pseudo_labels, "label", "confidence")
    kept = made["label"] == given["label"]
    assert 0 < kept.sum() < len(kept)
    np.testing.assert_allclose(made["confidence"][kept], given["confidence"][kept], atol=1e-3)  # half precision
    plain = given["probabilities"][np.arange(len(kept)), made["label"]]
    assert np.abs(made["confidence"] - plain).max() > 0.1


@pytest.mark.slow
def test_balanced_labels_of_one_label_a_class_reach_every_later_step(local_ray, tmp_path):
    settings = [*SHORT, "labels.per_class=1", "pseudo_labels.assignment=balanced", "name=balanced"]
    assert run_all(tmp_path, *settings) == 0
    _, run = described(tmp_path, *settings)
    assert artifact(tmp_path, run.pseudo_images).facts["images"] == 120
    page = (tmp_path / "runs" / "balanced" / "report.html").read_text()
    assert "another class than the most probable one" in page
    assert "Reliability of confidence" in page


def test_a_class_without_any_image_is_a_warning_and_a_working_run(finished, capsys):
    settings = [
        *SHORT,
        "stage1.algorithm.name=supervised",
        "stage1.images=320",
        "stage1.optimizer.learning_rate=1.0e-9",  # an untrained network puts everything into a few classes
        "name=empty",
    ]
    assert run_all(finished, *settings) == 0
    _, run = described(finished, *settings)
    counts = artifact(finished, run.pseudo_labels).facts["predicted_per_class"]
    assert 0 in counts
    assert artifact(finished, run.pseudo_images).facts["images"] == 120  # of the empty classes too
    page = (finished / "runs" / "empty" / "report.html").read_text()
    output = " ".join(capsys.readouterr().out.split())
    for text in ("stage 1 has collapsed", f"no image got a pseudo-label of {counts.count(0)} of 10 classes"):
        assert f"pseudo-labels: {text}" in page
        assert f"pseudo-labels: {text}" in output
    assert run_all(finished, *settings, flags=("--strict",)) == 2
    assert "(--strict stops here)" in capsys.readouterr().err
    assert "Reliability of confidence" in page
    metrics = read_metrics(artifact(finished, run.evaluation))
    empty = counts.index(0)
    assert metrics.per_class.pseudo_label_precision[empty] is None
    assert metrics.per_class.pseudo_label_recall[empty] == 0
