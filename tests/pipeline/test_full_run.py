"""The whole method, small: what is made, what is made again and what is not, and that no label leaks."""

import itertools
import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator
from tiny_runs import REPOSITORY, arguments, artifact, described, files, run_all

import dpt_ray
from dpt_ray.capacity.sizes import STAGE_NAMES
from dpt_ray.cli.job import run_job
from dpt_ray.data.images.decoding import ImageForm, decode_image
from dpt_ray.data.shards.archive_samples import iter_samples
from dpt_ray.data.shards.samples import Sample, build_shard
from dpt_ray.data.storage import stores
from dpt_ray.pipeline import graph
from dpt_ray.pipeline.artifacts import evaluation
from dpt_ray.pipeline.artifacts.dataset import image_form
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.artifacts.store import ArtifactStore
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.export_run import export_classifier, export_generator
from dpt_ray.pipeline.held_out_images import held_out_lists

NETWORK = "network.safetensors"


def test_a_run_ends_with_a_report_its_settings_and_the_lineage_of_everything(finished):
    folder = finished / "runs" / "digits"
    page = (folder / "report.html").read_text()
    assert "Pseudo images" in page
    assert "stage 3 accuracy" in page
    assert "<svg" in page
    _, run = described(finished)
    addresses = json.loads((folder / "run.json").read_text())["artifacts"]
    assert addresses == {id: step.address for id, step in run.by_id().items()}
    manifest = artifact(finished, run.retrained).manifest
    assert set(manifest["parents"]) == {"images", "labelled", "pseudo_images"}
    assert manifest["software"]["ray"]
    assert "stage3:" in (folder / "config.yaml").read_text()


def test_the_exported_generator_draws_the_very_pseudo_images_of_the_run(finished, tmp_path):
    folder = export_generator(str(finished / "runs" / "digits"), str(tmp_path / "generator"))
    _, run = described(finished)
    images, labels = [], []
    for name, data in files(artifact(finished, run.pseudo_images), "shards/*.tar").items():
        for sample in iter_samples(data, name):
            images.append(decode_image(sample.files["png"], ImageForm(8, 1), name))
            labels.append(int(sample.files["cls"]))
    generator = dpt_ray.load_generator(folder, "cpu")
    torch.set_num_threads(1)  # as the workers have
    assert np.array_equal(generator.sample(labels, batch=20).numpy(), np.stack(images))
    others = generator.sample(labels, batch=7).numpy().astype(int)
    assert np.abs(others - np.stack(images)).max() <= 1  # the batch changes rounding at most


def test_every_class_has_its_pseudo_images_and_every_image_its_pseudo_label(finished):
    _, run = described(finished)
    labels = []
    for name, data in files(artifact(finished, run.pseudo_images), "shards/*.tar").items():
        labels += [int(sample.files["cls"]) for sample in iter_samples(data, name)]
    assert np.bincount(labels).tolist() == [12] * 10
    assert artifact(finished, run.pseudo_labels).facts["images"] == artifact(finished, run.train_data).facts["images"]


def test_training_folders_keep_no_checkpoints(finished):
    assert not list(finished.glob("*/*/checkpoints"))
    assert not list(finished.glob("*/*/claim.json"))


def test_running_again_does_nothing_in_seconds(finished, capsys, monkeypatch):
    monkeypatch.setattr(graph.connection, "connect", lambda config: pytest.fail("Ray was started"))
    began = time.monotonic()
    assert run_all(finished) == 0
    assert time.monotonic() - began < 10
    printed = capsys.readouterr().out
    assert printed.count("already made") == len(graph.in_order(described(finished)[1].steps()))
    assert "report:" in printed


def test_the_report_shows_what_stage_3_corrects_and_newly_gets_wrong(finished):
    config, run = described(finished)
    made = {name: artifact(finished, getattr(run, f"{name}_predictions")) for name in ("stage1", "stage3")}
    shown = held_out_lists(
        artifact(finished, run.test_data), *made.values(), [str(label) for label in range(10)], image_form(config.data)
    )
    change = json.loads((Path(artifact(finished, run.evaluation).url) / "metrics.json").read_text())["stage3_change"]
    mistakes, mended, broken = shown
    assert (mended.total, broken.total) == (change["mended"], change["broken"])
    report = (finished / "runs" / "digits" / "report.html").read_text()
    for found in (found for found in shown if found.total):
        assert f"{found.title}: {found.total:,}" in report
        assert len(found.images) == min(10, found.total) == found.pictures.images.shape[1]
        confidences = [image.confidence for image in found.images]
        assert confidences == sorted(confidences, reverse=True)
    assert all(image.stage3 == image.true != image.stage1 for image in mended.images)
    assert all(image.stage1 == image.true != image.stage3 for image in broken.images)
    assert mistakes.total > 0
    assert all(image.stage3 != image.true for image in mistakes.images)


def test_figures_of_a_run_fit_the_schema_and_the_confusion_matrix_gives_the_accuracies(finished):
    _, run = described(finished)
    found = json.loads((Path(artifact(finished, run.evaluation).url) / "metrics.json").read_text())
    Draft202012Validator(json.loads((REPOSITORY / "docs/reference/metrics.schema.json").read_text())).validate(found)
    for stage in ("stage1", "stage3"):
        pairs = found["confusion"][stage]
        right = sum(pair["images"] for pair in pairs if pair["true"] == pair["predicted"])
        assert sum(pair["images"] for pair in pairs) == found["test_images"]
        assert right / found["test_images"] == pytest.approx(found[f"{stage}_accuracy"])
        assert found[f"{stage}_accuracy"] <= found[f"{stage}_top5_accuracy"] <= 1
    agreement = found["per_class"]["pseudo_image_agreement"]
    assert sum(agreement) / len(agreement) == pytest.approx(found["pseudo_image_agreement"])  # classes of one size
    assert all(distance > 0 for distance in found["per_class"]["pseudo_image_distance"])


def test_the_report_of_a_run_has_every_section(finished):
    report = (finished / "runs" / "digits" / "report.html").read_text()
    sections = ("results", "samples", "neighbours", "images", "classes", "quality", "confusion", "reliability")
    for section in (*sections, "training", "metrics", "steps", "lineage", "origin", "settings"):
        assert f'<section id="{section}">' in report
    assert "Real and pseudo images" in report


def test_a_dry_run_chooses_labels_from_the_indexed_images(finished, capsys):
    assert run_all(finished, "labels.per_class=1000", flags=("--dry-run",)) == 2
    assert "1000 labelled images of class '0' are requested, and it has" in capsys.readouterr().err


def test_a_sampling_setting_recomputes_from_sampling_on(finished, capsys):
    assert run_all(finished, "sampling.guidance_scale=1.5", "stage3.images=1600", "name=other") == 0
    made = [line for line in capsys.readouterr().out.splitlines() if ": done in" in line]
    assert [line.partition("] ")[2].partition(":")[0] for line in made] == [
        "pseudo images",
        "stage 3 classifier",
        "stage 3 on test data",
        "stage 1 on pseudo images",
        "evaluation",
    ]


def test_sampling_with_another_number_of_workers_gives_the_same_bytes(finished, tmp_path):
    """Only the generator and what it needs are taken over, so the images are drawn anew."""
    _, run = described(finished)
    for step in graph.in_order([run.generator]):
        Path(tmp_path, step.name).mkdir(exist_ok=True)
        Path(tmp_path, step.name, step.fingerprint).symlink_to(artifact(finished, step).url)
    config, _ = described(tmp_path, "cluster.inference_workers=1")
    graph.make_all([run.pseudo_images], ArtifactStore(str(tmp_path)), config.cluster, lambda text: None)
    one_worker = files(artifact(tmp_path, run.pseudo_images), "shards/*.tar")
    assert len(one_worker) == 6
    assert one_worker == files(artifact(finished, run.pseudo_images), "shards/*.tar")


def test_the_true_labels_of_unlabelled_images_change_no_weight_label_or_pixel(finished, tmp_path, capsys):
    """Replace every unlabelled training image's true label by a random one; only evaluation may notice."""
    _, run = described(finished)
    labelled = {image.key for image in read_labelled(artifact(finished, run.labelled))}
    random = np.random.default_rng(0)
    for split, data in (("train", run.train_data), ("test", run.test_data)):
        for name, content in files(artifact(finished, data.parents["shards"]), "shards/*.tar").items():
            samples = list(iter_samples(content, name))
            if split == "train":
                samples = [s if s.key in labelled else _with_label(s, random.integers(10)) for s in samples]
            stores.write_bytes(str(tmp_path / split / name), build_shard(samples))
    (tmp_path / "labelled.txt").write_text("\n".join(sorted(labelled)))
    settings = [
        f"data.train={tmp_path / 'train'}",
        f"data.test={tmp_path / 'test'}",
        "data.class_names=" + json.dumps(list("0123456789")),
        "labels.per_class=null",
        f"labels.file={tmp_path / 'labelled.txt'}",
    ]
    root = tmp_path / "results"
    assert run_all(root, *settings) == 0
    _, other = described(root, *settings)
    for name, pattern in [
        ("classifier", NETWORK),
        ("pseudo_labels", "predictions/*.parquet"),
        ("generator", NETWORK),
        ("pseudo_images", "shards/*.tar"),
        ("retrained", NETWORK),
    ]:
        original = files(artifact(finished, getattr(run, name)), pattern)
        assert original, name
        assert files(artifact(root, getattr(other, name)), pattern) == original, name
    with_truth, without = (artifact(r, d.evaluation).facts for r, d in ((finished, run), (root, other)))
    assert with_truth["stage3_accuracy"] == without["stage3_accuracy"]
    assert with_truth["pseudo_label_accuracy"] != without["pseudo_label_accuracy"]


def _with_label(sample: Sample, label: int) -> Sample:
    return Sample(sample.key, {**sample.files, "cls": str(label).encode()})


def test_rewording_every_title_changes_nothing_but_words(finished, tmp_path, monkeypatch, capsys):
    """Titles of steps and names of metrics are prose: no program finds anything by them."""
    run_folder = finished / "runs" / "digits"
    before = (run_folder / "run.json").read_bytes()
    exports = [_export_all(run_folder, tmp_path / "before")]
    titles = itertools.count()

    original = Step.__init__

    def reworded(self, title, parents):
        original(self, f"prose {next(titles)}", parents)

    monkeypatch.setattr(Step, "__init__", reworded)
    for stage in STAGE_NAMES:
        monkeypatch.setitem(STAGE_NAMES, stage, f"prose of {stage}")
    metric = evaluation.Metric
    monkeypatch.setattr(evaluation, "Metric", lambda id, name, *rest: metric(id, "prose", *rest))

    (run_folder / "run.json").unlink()  # so that the report is written again
    assert run_all(finished) == 0
    assert (run_folder / "run.json").read_bytes() == before
    assert "prose" in (run_folder / "report.html").read_text()
    exports.append(_export_all(run_folder, tmp_path / "after"))
    assert exports[0] == exports[1]
    capsys.readouterr()
    assert run_job("test", lambda run: run.steps(), arguments=[*arguments(finished), "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "prose of stage2" in plan
    assert "to make" not in plan


def _export_all(run_folder, destination) -> list[dict]:
    folders = [
        export_generator(str(run_folder), str(destination / "generator")),
        export_classifier(str(run_folder), str(destination / "stage1"), stage=1),
        export_classifier(str(run_folder), str(destination / "stage3"), stage=3),
    ]
    configs = [json.loads((Path(folder) / "config.json").read_text()) for folder in folders]
    for config in configs:
        assert config["metrics"]
        del config["files"]["README.md"]  # the model card is prose
        for entry in config["metrics"]:
            del entry["name"]
    return configs


@pytest.mark.slow
def test_a_classifier_that_learns_from_pseudo_images_alone_is_tested_on_real_ones(finished):
    """It makes what the run lacks and nothing else, and the figure is the accuracy of its own predictions."""
    assert run_all(finished, "evaluation.classification_score=true", "name=scored") == 0
    _, run = described(finished, "evaluation.classification_score=true")
    metrics = evaluation.read_metrics(artifact(finished, run.evaluation))
    own = evaluation.classifier_accuracy(artifact(finished, run.test_data), artifact(finished, run.score_predictions))
    assert metrics.classification_accuracy_score == pytest.approx(own)
    interval = metrics.classification_accuracy_score_interval
    assert interval.low < own < interval.high
    page = (finished / "runs" / "scored" / "report.html").read_text()
    assert "classification accuracy score" in page
    assert "classifier on pseudo images alone" in page
    _, before = described(finished)
    assert before.evaluation.address != run.evaluation.address
    assert before.retrained.address == run.retrained.address
