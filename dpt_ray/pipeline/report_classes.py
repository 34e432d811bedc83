"""What a run report says of each class, and of the confidence of predictions."""

from collections.abc import Mapping, Sequence

import numpy as np

from dpt_ray.config.schema import RunConfig
from dpt_ray.data.shards.index import read_index
from dpt_ray.pipeline.artifacts.class_metrics import ClassPair, Shares
from dpt_ray.pipeline.artifacts.dataset import class_names
from dpt_ray.pipeline.artifacts.evaluation import EvaluationMetrics
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.artifacts.predictions import PredictionsFacts
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.dpt import DualPseudoTraining
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.report.class_content import ClassAudit, ConfusedPair, Confusion
from dpt_ray.report.content import Reliability

Artifacts = Mapping[Step, Artifact]


def audit_classes(
    config: RunConfig, run: DualPseudoTraining, artifacts: Artifacts, metrics: EvaluationMetrics
) -> tuple[ClassAudit, ...]:
    """Return what became of each class."""
    index, per_class = read_index(artifacts[run.train_data].url), metrics.per_class
    labelled = np.bincount([i.label for i in read_labelled(artifacts[run.labelled])], minlength=index.num_classes)
    pseudo_labelled = PredictionsFacts.read(artifacts[run.pseudo_labels]).predicted_per_class
    return tuple(
        ClassAudit(
            name=name,
            images=index.class_counts[label],
            labelled=int(labelled[label]),
            pseudo_labelled=pseudo_labelled[label],
            precision=per_class.pseudo_label_precision[label],
            recall=per_class.pseudo_label_recall[label],
            stage1_accuracy=per_class.stage1_accuracy[label],
            stage3_accuracy=per_class.stage3_accuracy[label],
            agreement=_of_class(per_class.pseudo_image_agreement, label),
            distance=_of_class(per_class.pseudo_image_distance, label),
        )
        for label, name in enumerate(class_names(config.data, index.num_classes, index.class_names))
    )


def _of_class(shares: Shares, label: int) -> float | None:
    return shares[label] if shares else None


def confusions(metrics: EvaluationMetrics, names: Sequence[str]) -> tuple[Confusion, ...]:
    """Return the confusion matrices of both classifiers, stage 3 first; empty if an older version wrote the metrics."""
    if metrics.confusion is None:
        return ()
    found = (("Stage 3", metrics.confusion.stage3), ("Stage 1", metrics.confusion.stage1))
    return tuple(Confusion(title, names, _pairs(pairs)) for title, pairs in found)


def _pairs(pairs: Sequence[ClassPair]) -> tuple[ConfusedPair, ...]:
    return tuple(ConfusedPair(pair.true, pair.predicted, pair.images) for pair in pairs)


def reliabilities(metrics: EvaluationMetrics) -> tuple[Reliability, ...]:
    """Return how confidence compares with accuracy, wherever true labels are known."""
    found = (
        ("Stage 1 on held-out images", metrics.stage1_reliability),
        ("Stage 3 on held-out images", metrics.stage3_reliability),
        ("Pseudo-labels of unlabelled images", metrics.reliability),
    )
    return tuple(Reliability(title, bins) for title, bins in found if bins)
