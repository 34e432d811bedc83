"""What stage 3 adds to stage 1, by labels a class and by how pseudo images are mixed in."""

from collections.abc import Callable, Sequence
from typing import Any

from dpt_ray.config.schema import RunConfig
from dpt_ray.experiments.runs import Make, measure_all
from dpt_ray.experiments.statistics import mean_and_deviation, paired_interval
from dpt_ray.experiments.study.algorithm_comparison import seeded
from dpt_ray.experiments.study.choices import MIXINGS
from dpt_ray.pipeline.artifacts.evaluation import classifier_accuracy
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.classifier_steps import predict
from dpt_ray.pipeline.dpt import DualPseudoTraining
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.tables import markdown_table


def gains_of_stage3(
    *,
    config: str,
    root: str,
    per_class: Sequence[int],
    mixings: Sequence[str],
    seeds: Sequence[int],
    processes: int,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Run the method for all combinations; return a row of accuracies for each."""
    # Runs of one seed share stages 1 and 2. They come far apart, or the later one would wait for the earlier one's.
    cells = [(labels, mixing, seed) for mixing in mixings for labels in per_class for seed in seeds]
    runs = {
        f"{labels} a class, seed {seed}, {mixing}": [
            f"root={root}", f"labels.per_class={labels}", *seeded(seed),
            *MIXINGS[mixing],
        ]
        for labels, mixing, seed in cells
    }  # fmt: skip
    figures = measure_all(runs, _accuracies, config=config, processes=processes, say=say)
    rows = [
        {"per_class": labels, "mixing": mixing, "seed": seed, **measured}
        for (labels, mixing, seed), measured in zip(cells, figures.values(), strict=True)
    ]
    return sorted(rows, key=lambda row: row["per_class"])


def _accuracies(config: RunConfig, run: DualPseudoTraining, make: Make) -> dict[str, Any]:
    """Return both classifiers' accuracies on held-out images and on the unlabelled training images."""
    before, after = (
        predict(f"stage {stage} on training data", config.data, network, run.train_data, Inputs())
        for stage, network in ((1, run.classifier), (3, run.retrained))
    )
    made = make([run.test_data, run.stage1_predictions, run.stage3_predictions, run.labelled, before, after])
    labelled = {image.key for image in read_labelled(made[run.labelled])}
    train, test = made[run.train_data], made[run.test_data]
    return {
        "stage1_test": classifier_accuracy(test, made[run.stage1_predictions]),
        "stage3_test": classifier_accuracy(test, made[run.stage3_predictions]),
        "stage1_unlabelled": classifier_accuracy(train, made[before], labelled),
        "stage3_unlabelled": classifier_accuracy(train, made[after], labelled),
    }


def gains_table(rows: Sequence[dict[str, Any]], on: str) -> str:
    """Return gains as Markdown, with 95 % confidence intervals of the paired differences.

    Args:
        rows: of `gains_of_stage3`.
        on: "test" or "unlabelled": the images that accuracy is of.
    """
    table = [("labels a class", "mixing", "stage 1", "stage 3", "gain, points", "95 % interval", "seed by seed")]
    for labels, mixing in dict.fromkeys((row["per_class"], row["mixing"]) for row in rows):
        cell = [row for row in rows if (row["per_class"], row["mixing"]) == (labels, mixing)]
        before, after = ([row[f"{stage}_{on}"] for row in cell] for stage in ("stage1", "stage3"))
        mean, low, high = (100 * value for value in paired_interval(before, after))
        each = ", ".join(f"{100 * (b - a):+.1f}" for a, b in zip(before, after, strict=True))
        scores = [f"{mean:.2%} ± {deviation:.2%}" for mean, deviation in map(mean_and_deviation, (before, after))]
        table.append((str(labels), mixing, *scores, f"{mean:+.2f}", f"{low:+.2f} to {high:+.2f}", each))
    return markdown_table(table)
