"""Compares the semi-supervised algorithms in stage 1, with few labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dpt_ray.config.schema import RunConfig
from dpt_ray.core.semi_supervised.algorithms import algorithm_class, algorithm_names
from dpt_ray.data.storage.json_records import Record
from dpt_ray.experiments.many_runs import Make, measure_all
from dpt_ray.experiments.statistics import mean_and_deviation
from dpt_ray.pipeline.artifacts.evaluation import classifier_accuracy
from dpt_ray.pipeline.dpt import DualPseudoTraining
from dpt_ray.tables import markdown_table

MOMENTUM = 0.99
"""`statistics_momentum` of all algorithms that have it. Their default, 0.999, suits a million steps."""


@dataclass(frozen=True)
class AlgorithmAccuracies(Record):
    """Test accuracies of stage 1.

    Attributes:
        per_class: labelled images of each class.
        seeds: seeds of the runs.
        test_accuracy: name of the algorithm -> test accuracy for each seed.
    """

    per_class: int
    seeds: tuple[int, ...]
    test_accuracy: dict[str, list[float]]


def compare_algorithms(
    *, config: str, root: str, per_class: int, seeds: Sequence[int], processes: int, say: Callable[[str], None]
) -> AlgorithmAccuracies:
    """Train stage 1 with every algorithm and seed."""
    runs = {
        f"{name}, seed {seed}": [f"root={root}", f"labels.per_class={per_class}", *seeded(seed), *_settings(name)]
        for name in algorithm_names()
        for seed in seeds
    }
    figures = measure_all(runs, _stage1_accuracy, config=config, processes=processes, say=say)
    accuracy = {name: [figures[f"{name}, seed {seed}"] for seed in seeds] for name in algorithm_names()}
    return AlgorithmAccuracies(per_class, tuple(seeds), accuracy)


def seeded(seed: int) -> list[str]:
    """Return the settings that seed a run: its labelled images, initial weights and data orders."""
    return [f"labels.seed={seed}", f"seed={seed}"]


def _settings(name: str) -> list[str]:
    has_momentum = "statistics_momentum" in algorithm_class(name).Settings.model_fields
    momentum = [f"stage1.algorithm.statistics_momentum={MOMENTUM}"] if has_momentum else []
    return [f"stage1.algorithm.name={name}", *momentum]


def _stage1_accuracy(config: RunConfig, run: DualPseudoTraining, make: Make) -> float:
    made = make([run.test_data, run.stage1_predictions])
    return classifier_accuracy(made[run.test_data], made[run.stage1_predictions])


def menu_table(figures: AlgorithmAccuracies) -> str:
    """Return the comparison as Markdown, the best algorithm first."""
    scores = {name: mean_and_deviation(values) for name, values in figures.test_accuracy.items()}
    rows = [
        (name, f"{mean:.2%} ± {deviation:.2%}", ", ".join(f"{v:.2%}" for v in figures.test_accuracy[name]))
        for name, (mean, deviation) in sorted(scores.items(), key=lambda item: -item[1][0])
    ]
    return markdown_table([("algorithm", "test accuracy, mean ± deviation", "seed by seed"), *rows])
