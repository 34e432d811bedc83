"""Evaluation: the only step that reads the true labels of unlabelled and of test images."""

from dataclasses import dataclass, replace

from dpt_ray.core.metrics.calibration import expected_calibration_error, mean_confidence
from dpt_ray.core.metrics.class_counts import ClassCounts
from dpt_ray.core.metrics.uncertainty import paired_change
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.data.shards.sidecar_urls import label_sidecars
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.class_metrics import ClassMetrics, Confusions
from dpt_ray.pipeline.artifacts.evaluation import METRICS_FILE, EvaluationFacts, EvaluationMetrics, tell_verdict
from dpt_ray.pipeline.artifacts.generation import GenerationFacts
from dpt_ray.pipeline.artifacts.labelled import labelled_rows
from dpt_ray.pipeline.artifacts.overlap import OverlapFacts
from dpt_ray.pipeline.artifacts.predictions import TOP, PredictionsFacts, prediction_sidecars, shard_counts
from dpt_ray.pipeline.execution.class_quality import Distances, feature_distances
from dpt_ray.pipeline.execution.compare_groups import Comparison, ToCompare, compare_predictions
from dpt_ray.pipeline.execution.judged_classifier import accuracy_interval, judge_classifier
from dpt_ray.pipeline.execution.result_warnings import stage3_below
from dpt_ray.pipeline.execution.step import Step, StepContext

_SCORED = "trained_on_pseudo"
"""Role of the predictions by a classifier that learnt from pseudo images alone."""


class Evaluation(Step[EvaluationFacts]):
    """Compute all metrics of a run.

    Args:
        train_data: indexes the training images, with their true labels.
        test_data: indexes the held-out images, with their true labels.
        overlap: finds held-out images among the training images; None if they are a part of the training images.
        labelled: chooses the labelled images, which the accuracy of pseudo-labels leaves out.
        pseudo_labels: makes stage 1's predictions for the training images.
        stage1: makes stage 1's predictions for the held-out images.
        stage3: makes stage 3's predictions for the held-out images.
        pseudo_images: makes stage 1's predictions for the pseudo images, with features if there are `real_features`.
        real_features: makes stage 1's features of the training images, for the Fréchet distance.
        generation: measures pseudo images in the features of a network.
        trained_on_pseudo: predicts the held-out images by a classifier that learnt from pseudo images alone.
    """

    name = "evaluation"
    version = 6
    facts_type = EvaluationFacts

    def __init__(
        self,
        *,
        train_data: Step,
        test_data: Step,
        overlap: Step | None = None,
        labelled: Step,
        pseudo_labels: Step,
        stage1: Step,
        stage3: Step,
        pseudo_images: Step,
        real_features: Step | None = None,
        generation: Step | None = None,
        trained_on_pseudo: Step | None = None,
    ):
        parents: dict[str, Step] = {
            "train_data": train_data,
            "test_data": test_data,
            "labelled": labelled,
            "pseudo_labels": pseudo_labels,
            "stage1": stage1,
            "stage3": stage3,
            "pseudo_images": pseudo_images,
        }
        if overlap is not None:  # the first parent is made first, so before any training
            parents = {"overlap": overlap, **parents}
        if real_features is not None:
            parents["real_features"] = real_features
        if generation is not None:
            parents["generation"] = generation
        if trained_on_pseudo is not None:
            parents[_SCORED] = trained_on_pseudo
        super().__init__("evaluation", parents)

    @property
    def settings(self) -> JsonObject:
        return {}

    def plan(self) -> str:
        return "comparing predictions with true labels"

    def make(self, context: StepContext) -> EvaluationFacts:
        parents = context.parents
        seen = _compare(context)
        overlap = OverlapFacts.read(parents["overlap"]) if "overlap" in parents else None
        distances = _distances(context)
        pseudo_labels, agreeing = seen.pseudo_labels, seen.pseudo_images
        stage1, stage3 = (judge_classifier(counts) for counts in seen.held_out.counts)
        bins = pseudo_labels.reliability()
        change = paired_change(seen.held_out.counts[0].images, seen.held_out.mended, seen.held_out.broken)
        facts = EvaluationFacts(
            stage1_accuracy=stage1.accuracy,
            pseudo_label_accuracy=pseudo_labels.accuracy if pseudo_labels.images else None,
            pseudo_label_mean_confidence=mean_confidence(bins) if bins else None,
            pseudo_label_calibration_error=expected_calibration_error(bins) if bins else None,
            stage3_accuracy=stage3.accuracy,
            pseudo_image_agreement=agreeing.accuracy,
            test_images=change.images,
            duplicate_test_images=overlap.exact.test_images if overlap else None,
            near_duplicate_test_images=overlap.near.test_images if overlap else None,
            frechet_distance=distances.whole if distances else None,
            stage1_interval=stage1.interval,
            stage3_interval=stage3.interval,
            stage3_change=change,
            stage1_calibration_error=expected_calibration_error(stage1.bins),
            stage3_calibration_error=expected_calibration_error(stage3.bins),
            pseudo_label_interval=accuracy_interval(pseudo_labels),
            pseudo_image_agreement_interval=accuracy_interval(agreeing),
            stage1_top5_accuracy=stage1.top5,
            stage1_top5_interval=stage1.top5_interval,
            stage3_top5_accuracy=stage3.top5,
            stage3_top5_interval=stage3.top5_interval,
            generation=GenerationFacts.read(parents["generation"]) if "generation" in parents else None,
            classification_accuracy_score=seen.scored.accuracy if seen.scored else None,
            classification_accuracy_score_interval=accuracy_interval(seen.scored) if seen.scored else None,
        )
        per_class = ClassMetrics(
            pseudo_label_precision=tuple(pseudo_labels.precision()),
            pseudo_label_recall=tuple(pseudo_labels.recall()),
            stage1_accuracy=stage1.per_class,
            stage3_accuracy=stage3.per_class,
            pseudo_image_agreement=tuple(agreeing.recall()),
            pseudo_image_distance=distances.by_class if distances else (),
        )
        metrics = EvaluationMetrics(
            **vars(facts),
            per_class=per_class,
            reliability=tuple(bins),
            stage1_reliability=tuple(stage1.bins),
            stage3_reliability=tuple(stage3.bins),
            confusion=Confusions(stage1=stage1.confusion, stage3=stage3.confusion),
        )
        stores.write_json(context.file(METRICS_FILE), metrics.to_json())
        return facts

    def warnings(self, facts: EvaluationFacts, context: StepContext) -> list[str]:
        text = stage3_below(facts.stage1_accuracy, facts.stage3_accuracy, facts.stage3_change)
        return [text] if text else []

    def summary(self, facts: EvaluationFacts) -> str:
        return (
            f"test accuracy: stage 1 {facts.stage1_accuracy:.2%}, stage 3 {facts.stage3_accuracy:.2%}"
            f"{f', {verdict}' if (verdict := tell_verdict(facts.stage3_change)) else ''}; "
            f"{facts.test_images:,} test images"
        )


def _check_same_classes(train: DatasetIndex, test: DatasetIndex) -> None:
    if test.num_classes != train.num_classes:
        raise UserError(
            f"the test data has {test.num_classes} classes, the training data {train.num_classes}",
            where="data.test",
            fix="set data.num_classes, and use the same class ids in both",
        )


@dataclass(frozen=True)
class _Seen:
    """Predictions of all images against their true classes.

    Attributes:
        held_out: stage 1 and stage 3 on the held-out images that both could read.
        pseudo_labels: pseudo-labels of the images without a given label.
        pseudo_images: stage 1 on the pseudo images, whose true class is the one that was requested.
        scored: a classifier that learnt from pseudo images alone on the held-out images; None if there is none.
    """

    held_out: Comparison
    pseudo_labels: ClassCounts
    pseudo_images: ClassCounts
    scored: ClassCounts | None


def _compare(context: StepContext) -> _Seen:
    parents = context.parents
    train, test = read_index(parents["train_data"].url), read_index(parents["test_data"].url)
    _check_same_classes(train, test)
    stages = ToCompare(
        tuple(prediction_sidecars(parents[name]) for name in ("stage1", "stage3")),
        train.num_classes,
        true=label_sidecars(test),
        top=train.num_classes > TOP,
        keep_pairs=True,
    )
    held_out_counts = [shard.samples for shard in test.shards]
    held_out = compare_predictions(context, stages, held_out_counts, "held_out")
    if not held_out.counts[0].images:
        raise UserError("no held-out image has a true label and can be read", where="data.test")
    scored = None
    if _SCORED in parents:
        alone = replace(stages, predictions=(prediction_sidecars(parents[_SCORED]),), top=False, keep_pairs=False)
        scored = compare_predictions(context, alone, held_out_counts, _SCORED).counts[0]
    labels = ToCompare((prediction_sidecars(parents["pseudo_labels"]),), train.num_classes, true=label_sidecars(train))
    counts, given = [shard.samples for shard in train.shards], labelled_rows(parents["labelled"])
    pseudo_labels = compare_predictions(context, labels, counts, "pseudo_labels", given).counts[0]
    predicted = parents["pseudo_images"]
    requested = ToCompare((prediction_sidecars(predicted),), train.num_classes, confidence=False)
    counts = shard_counts(PredictionsFacts.read(predicted)).tolist()
    pseudo_images = compare_predictions(context, requested, counts, "pseudo_images").counts[0]
    return _Seen(held_out, pseudo_labels, pseudo_images, scored)


def _distances(context: StepContext) -> Distances | None:
    real, pseudo = context.parents.get("real_features"), context.parents["pseudo_images"]
    return (
        None
        if real is None
        else feature_distances(context, read_index(context.parents["train_data"].url), real, pseudo)
    )
