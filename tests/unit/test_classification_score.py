"""The classification accuracy score: its steps, the labels that they learn from, and the figure that comes out."""

import numpy as np
import torch
from encoder_folders import save_msn

from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.config.load import load_config
from dpt_ray.core.metrics.uncertainty import Interval
from dpt_ray.data.shards.index import DatasetIndex, ShardInfo
from dpt_ray.data.shards.skipped import TOLERATE_NOTHING
from dpt_ray.data.storage import stores
from dpt_ray.experiments.comparison.compared_runs import ComparedRun
from dpt_ray.experiments.comparison.rows import compare_rows
from dpt_ray.pipeline.artifacts.evaluation import EvaluationFacts, described_metrics
from dpt_ray.pipeline.artifacts.labelled import labelled_source, read_labelled
from dpt_ray.pipeline.artifacts.pseudo_images import conditioning_class
from dpt_ray.pipeline.artifacts.store import ArtifactStore
from dpt_ray.pipeline.classification_score import TITLE
from dpt_ray.pipeline.dpt import build
from dpt_ray.pipeline.execution.step import StepContext
from dpt_ray.pipeline.run_report import _headline
from dpt_ray.pipeline.steps.requested_labels import RequestedLabels
from dpt_ray.report.compare_content import CompareReport
from dpt_ray.report.compare_page import comparison_csv, results_cells

ON = ["preset=digits", "evaluation.classification_score=true"]


def ancestors(step) -> set[str]:
    found = set()
    for parent in step.parents.values():
        found |= {parent.name, *ancestors(parent)}
    return found


def test_without_the_setting_there_is_nothing_of_it():
    run = build(load_config(None, ["preset=digits"]))
    assert run.trained_on_pseudo is None
    assert run.score_predictions is None
    assert "trained_on_pseudo" not in run.evaluation.parents


def test_the_classifier_sees_pseudo_images_and_no_real_image_or_label():
    run = build(load_config(None, [*ON, "stage3.model.width=48"]))
    trained = run.trained_on_pseudo
    assert trained.title == TITLE
    assert trained.parents["images"] is run.pseudo_images
    assert set(trained.parents) == {"images", "labelled"}
    assert isinstance(trained.parents["labelled"], RequestedLabels)
    training = trained.settings["training"]
    assert training["algorithm"] == {"name": "supervised"}
    assert training["model"] == run.retrained.settings["training"]["model"]
    assert training["images"] == run.retrained.settings["training"]["images"]
    assert run.evaluation.parents["trained_on_pseudo"] is run.score_predictions
    assert run.score_predictions.parents["images"] is run.test_data
    assert list(run.by_id())[-1] == "evaluation"


def test_weights_that_learnt_from_real_images_are_not_its_start(tmp_path):
    from dpt_ray.core.training.from_settings import classifier_training
    from dpt_ray.networks.classifier import classifier_file

    config = load_config(None, ON)
    file = tmp_path / "network.safetensors"
    state = classifier_training(config.stage3, channels=1, num_classes=10, seed=0)
    file.write_bytes(classifier_file(config.stage3.model, 1, 10, state))
    run = build(load_config(None, [*ON, f"stage3.from={file}"]))
    assert "from" in run.retrained.settings
    assert "from" not in run.trained_on_pseudo.settings


def test_every_pseudo_image_is_labelled_with_its_requested_class(tmp_path):
    shards = tuple(ShardInfo(f"{tmp_path}/{number}.tar", 1, "0", rows) for number, rows in enumerate((4, 4, 1)))
    store = ArtifactStore(str(tmp_path))
    index = DatasetIndex(shards, (3, 3, 3), str(tmp_path / "labels"), ("ant", "bee", "cat"))
    folder = store.folder("pseudo_images", "p")
    stores.write_json(f"{folder}/index.json", index.to_json(folder))
    pseudo = store.commit("pseudo_images", "p", {"settings": {}, "parents": {}, "facts": {}, "seconds": 1.0})
    step = RequestedLabels(build(load_config(None, ON)).pseudo_images)
    folder = store.folder("requested_labels", "r")
    context = StepContext(folder, {"images": pseudo}, ClusterConfig(), "requested classes", TOLERATE_NOTHING)
    facts = step.make(context)
    assert (facts.images, facts.of) == (9, 9)
    made = store.commit("requested_labels", "r", {"settings": {}, "parents": {}, "facts": {}, "seconds": 1.0})
    found = read_labelled(made)
    assert [image.label for image in found] == conditioning_class(np.arange(9), 3)[0].tolist()
    assert len({image.key for image in found}) == 9
    source = labelled_source(made, index, load_form())
    assert [shard.labels for shard in source.shards] == [(0, 1, 2, 0), (1, 2, 0, 1), (2,)]


def load_form():
    from dpt_ray.data.images.decoding import ImageForm

    return ImageForm(8, 1)


def facts(**changes) -> EvaluationFacts:
    known = {"stage1_accuracy": 0.5, "stage3_accuracy": 0.75, "pseudo_image_agreement": 0.9, "test_images": 4}
    return EvaluationFacts(**known, **changes)


def test_the_figure_is_described_with_its_interval_and_stands_in_the_headline():
    known = facts(classification_accuracy_score=0.6, classification_accuracy_score_interval=Interval(low=0.5, high=0.7))
    (metric,) = [metric for metric in described_metrics(known) if metric.id == "classification_accuracy_score"]
    assert (metric.value, metric.interval) == (0.6, (0.5, 0.7))
    assert EvaluationFacts.from_json(known.to_json()) == known
    (figure,) = [figure for figure in _headline(known) if figure.label == "classification accuracy score"]
    assert figure.value == "60.0%"
    assert "95% interval 50.0% to 70.0%" in figure.note
    assert "classification_accuracy_score" not in facts().to_json()
    assert len(_headline(facts())) == len(_headline(known)) - 1


def test_a_comparison_has_a_column_for_it_where_it_was_measured():
    def runs(**figures):
        return [
            ComparedRun(f"r{seed}", {"seed": seed}, {"labels.per_class": 4}, {"stage3_accuracy": 0.8, **figures})
            for seed in (0, 1)
        ]

    measured, without = compare_rows(runs(classification_accuracy_score=0.5)), compare_rows(runs())
    assert results_cells(measured)[0][-1] == "Pseudo images alone"
    assert results_cells(measured)[1][-1].startswith("50.0%")
    assert "Pseudo images alone" not in results_cells(without)[0]
    table = comparison_csv(CompareReport("t", "2026-01-05", measured, []))
    assert "classification_accuracy_score_mean" in table.splitlines()[0]


def test_images_that_could_not_be_read_are_not_counted():
    from dpt_ray.pipeline.artifacts.evaluation import known_pairs

    true, seen = torch.tensor([0, 1, 2, -1]), torch.tensor([0, -2, 1, 0])
    assert [part.tolist() for part in known_pairs(true, seen)] == [[0, 2], [0, 1]]


def test_a_probe_is_fitted_to_pseudo_images_alone(tmp_path):
    probe = [f"stage1.probe.encoder={save_msn(tmp_path / 'encoder')}", "stage1.probe.resize=8", "stage1.probe.crop=8"]
    run = build(load_config(None, [*ON, "labels.per_class=8", "stage1.model.name=linear_probe", *probe]))
    fitted = run.trained_on_pseudo
    assert set(fitted.parents) == {"images", "labelled", "encoded"}
    assert fitted.parents["encoded"].parents["images"] is run.pseudo_images
