"""Measures the calibration of the confidence of stage 1, and compares balanced pseudo-labels with predicted ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dpt_ray.config.pseudo_data_section import PseudoLabelsConfig
from dpt_ray.config.schema import RunConfig
from dpt_ray.core.metrics.calibration import expected_calibration_error
from dpt_ray.data.storage.json_records import Record
from dpt_ray.experiments.many_runs import Make, measure_all
from dpt_ray.experiments.statistics import mean_and_deviation
from dpt_ray.experiments.study.algorithm_comparison import seeded
from dpt_ray.pipeline.artifacts.evaluation import classifier_accuracy, classifier_reliability
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.artifacts.predictions import PredictionsFacts
from dpt_ray.pipeline.classifier_steps import predict
from dpt_ray.pipeline.dpt import DualPseudoTraining
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.steps.balanced_labels import BalancedLabels
from dpt_ray.tables import markdown_table

VARIANTS = {
    "the image as it is": PseudoLabelsConfig(),
    "mean of 4 views": PseudoLabelsConfig(views=4),
    "mean of 16 views": PseudoLabelsConfig(views=16),
    "balanced": PseudoLabelsConfig(assignment="balanced"),
    "balanced, sharpness 10": PseudoLabelsConfig(assignment="balanced", sharpness=10.0),
}
"""Ways to compute labels and confidence from one classifier."""


@dataclass(frozen=True)
class ConfidenceRow(Record):
    """Figures of the pseudo-labels of unlabelled images in one run; the last three are in [0, 1].

    Attributes:
        per_class: labelled images of each class.
        seed: seed of the run.
        variant: a key of `VARIANTS`.
        accuracy: share of pseudo-labels that equal the true label.
        calibration_error: expected calibration error of the confidence.
        mean_confidence: mean confidence, over the labelled images too.
    """

    per_class: int
    seed: int
    variant: str
    accuracy: float
    calibration_error: float
    mean_confidence: float


def compare_confidence(
    *,
    config: str,
    root: str,
    per_class: Sequence[int],
    seeds: Sequence[int],
    processes: int,
    say: Callable[[str], None],
) -> list[ConfidenceRow]:
    """Return the figures of every variant for all combinations of `per_class` and `seeds`."""
    cells = [(labels, seed) for labels in per_class for seed in seeds]
    runs = {
        f"{labels} a class, seed {seed}": [f"root={root}", f"labels.per_class={labels}", *seeded(seed)]
        for labels, seed in cells
    }
    figures = measure_all(runs, _measure, config=config, processes=processes, say=say)
    return [
        ConfidenceRow(labels, seed, variant, **measured)
        for (labels, seed), variants in zip(cells, figures.values(), strict=True)
        for variant, measured in variants.items()
    ]


def _measure(config: RunConfig, run: DualPseudoTraining, make: Make) -> dict[str, dict[str, float]]:
    steps: dict[str, Step] = {}
    for name, details in VARIANTS.items():
        step: Step = predict(name, config.data, run.classifier, run.train_data, Inputs(), details=details)
        steps[name] = BalancedLabels(details, step, run.train_data) if details.assignment == "balanced" else step
    made = make([run.labelled, run.train_data, *steps.values()])
    labelled = {image.key for image in read_labelled(made[run.labelled])}
    train = made[run.train_data]
    return {
        name: {
            "accuracy": classifier_accuracy(train, made[step], labelled),
            "calibration_error": expected_calibration_error(classifier_reliability(train, made[step], labelled)),
            "mean_confidence": PredictionsFacts.read(made[step]).mean_confidence,
        }
        for name, step in steps.items()
    }


def confidence_table(rows: Sequence[ConfidenceRow]) -> str:
    """Return the comparison as Markdown."""
    table: list[tuple[str, ...]] = [
        ("labels a class", "label and confidence of", "accuracy", "mean confidence", "calibration error")
    ]
    for labels, variant in dict.fromkeys((row.per_class, row.variant) for row in rows):
        cell = [row for row in rows if (row.per_class, row.variant) == (labels, variant)]
        columns = zip(*((row.accuracy, row.mean_confidence, row.calibration_error) for row in cell), strict=True)
        means = [mean_and_deviation(column) for column in columns]
        table.append((str(labels), variant, *(f"{mean:.2%} ± {deviation:.2%}" for mean, deviation in means)))
    return markdown_table(table)
