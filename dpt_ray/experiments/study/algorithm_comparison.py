"""How well each semi-supervised algorithm of the menu learns from few labels."""

from collections.abc import Callable, Sequence
from typing import Any

from dpt_ray.config.schema import RunConfig
from dpt_ray.core.semi_supervised.algorithms import algorithm_class, algorithm_names
from dpt_ray.experiments.runs import Make, measure_all
from dpt_ray.experiments.statistics import mean_and_deviation
from dpt_ray.pipeline.artifacts.evaluation import classifier_accuracy
from dpt_ray.pipeline.dpt import DualPseudoTraining
from dpt_ray.tables import markdown_table

MOMENTUM = 0.99
"""Of all algorithms with running statistics: 0.999, their default, is for a million steps."""


def compare_algorithms(
    *, config: str, root: str, per_class: int, seeds: Sequence[int], processes: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Train stage 1 with every algorithm and seed; return test accuracies by algorithm, in the order of `seeds`."""
    runs = {
        f"{name}, seed {seed}": [f"root={root}", f"labels.per_class={per_class}", *seeded(seed), *_settings(name)]
        for name in algorithm_names()
        for seed in seeds
    }
    figures = measure_all(runs, _stage1_accuracy, config=config, processes=processes, say=say)
    accuracy = {name: [figures[f"{name}, seed {seed}"]["accuracy"] for seed in seeds] for name in algorithm_names()}
    return {"per_class": per_class, "seeds": list(seeds), "test_accuracy": accuracy}


def seeded(seed: int) -> list[str]:
    """Return the settings that make a run another one: other labelled images, weights and orders."""
    return [f"labels.seed={seed}", f"seed={seed}"]


def _settings(name: str) -> list[str]:
    has_momentum = "statistics_momentum" in algorithm_class(name).Settings.model_fields
    momentum = [f"stage1.algorithm.statistics_momentum={MOMENTUM}"] if has_momentum else []
    return [f"stage1.algorithm.name={name}", *momentum]


def _stage1_accuracy(config: RunConfig, run: DualPseudoTraining, make: Make) -> dict[str, Any]:
    made = make([run.test_data, run.stage1_predictions])
    return {"accuracy": classifier_accuracy(made[run.test_data], made[run.stage1_predictions])}


def menu_table(figures: dict[str, Any]) -> str:
    """Return the comparison as Markdown, best first."""
    scores = {name: mean_and_deviation(values) for name, values in figures["test_accuracy"].items()}
    rows = [
        (name, f"{mean:.2%} ± {deviation:.2%}", ", ".join(f"{v:.2%}" for v in figures["test_accuracy"][name]))
        for name, (mean, deviation) in sorted(scores.items(), key=lambda item: -item[1][0])
    ]
    return markdown_table([("algorithm", "test accuracy, mean ± deviation", "seed by seed"), *rows])
