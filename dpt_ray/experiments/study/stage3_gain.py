"""Measures the gain of stage 3 over stage 1, by labels a class and by the mixing of pseudo images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dpt_ray.config.schema import RunConfig
from dpt_ray.core.metrics.uncertainty import LEVEL
from dpt_ray.data.storage.json_records import Record, optional
from dpt_ray.experiments.many_runs import Make, measure_all
from dpt_ray.experiments.statistics import mean_and_deviation, paired_interval
from dpt_ray.experiments.study.algorithm_comparison import seeded
from dpt_ray.experiments.study.choices import MIXINGS
from dpt_ray.pipeline.artifacts.evaluation import classifier_accuracy, paired_accuracies
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.classifier_steps import predict
from dpt_ray.pipeline.dpt import DualPseudoTraining
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.tables import markdown_table


@dataclass(frozen=True)
class GainRow(Record):
    """Accuracies of both classifiers of one run.

    Attributes:
        per_class: labelled images of each class.
        mixing: a key of `MIXINGS`.
        seed: seed of the run.
        stage1_test: accuracy of stage 1 on held-out images.
        stage3_test: accuracy of stage 3 on held-out images.
        stage1_unlabelled: accuracy of stage 1 on unlabelled training images.
        stage3_unlabelled: accuracy of stage 3 on unlabelled training images.
        p_value: of McNemar's exact test on held-out images; None in older figures.
    """

    per_class: int
    mixing: str
    seed: int
    stage1_test: float
    stage3_test: float
    stage1_unlabelled: float
    stage3_unlabelled: float
    p_value: float | None = optional()

    def before_and_after(self, on: str) -> tuple[float, float]:
        """Return the accuracies of stages 1 and 3 on images that are "test" or "unlabelled"."""
        test, unlabelled = (self.stage1_test, self.stage3_test), (self.stage1_unlabelled, self.stage3_unlabelled)
        return {"test": test, "unlabelled": unlabelled}[on]


def gains_of_stage3(
    *,
    config: str,
    root: str,
    per_class: Sequence[int],
    mixings: Sequence[str],
    seeds: Sequence[int],
    processes: int,
    say: Callable[[str], None],
) -> list[GainRow]:
    """Run the method for all combinations of `per_class`, `mixings` and `seeds`."""
    # Runs of one seed share stages 1 and 2. They are far apart in this order: neighbours run at the same time, and one
    # would wait for the other.
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
        GainRow(labels, mixing, seed, **measured)
        for (labels, mixing, seed), measured in zip(cells, figures.values(), strict=True)
    ]
    return sorted(rows, key=lambda row: row.per_class)


def _accuracies(config: RunConfig, run: DualPseudoTraining, make: Make) -> dict[str, float]:
    """Return the accuracies of a `GainRow`."""
    before, after = (
        predict(f"stage {stage} on training data", config.data, network, run.train_data, Inputs())
        for stage, network in ((1, run.classifier), (3, run.retrained))
    )
    made = make([run.test_data, run.stage1_predictions, run.stage3_predictions, run.labelled, before, after])
    labelled = {image.key for image in read_labelled(made[run.labelled])}
    train, test = made[run.train_data], made[run.test_data]
    change = paired_accuracies(test, made[run.stage1_predictions], made[run.stage3_predictions])
    return {
        "stage1_test": classifier_accuracy(test, made[run.stage1_predictions]),
        "stage3_test": classifier_accuracy(test, made[run.stage3_predictions]),
        "stage1_unlabelled": classifier_accuracy(train, made[before], labelled),
        "stage3_unlabelled": classifier_accuracy(train, made[after], labelled),
        "p_value": change.p_value,
    }


def gains_table(rows: Sequence[GainRow], on: str) -> str:
    """Return gains as Markdown, with 95 % confidence intervals of the paired differences.

    On held-out images the last column counts the seeds whose own test tells stage 3 from stage 1, better or worse.

    Args:
        rows: result of `gains_of_stage3`.
        on: images of the accuracies: "test" or "unlabelled".
    """
    tested = on == "test" and all(row.p_value is not None for row in rows)
    head = ("labels a class", "mixing", "stage 1", "stage 3", "gain, points", "95 % interval", "seed by seed")
    table: list[tuple[str, ...]] = [(*head, "p < 0.05, better or worse") if tested else head]
    for labels, mixing in dict.fromkeys((row.per_class, row.mixing) for row in rows):
        cell = [row for row in rows if (row.per_class, row.mixing) == (labels, mixing)]
        before, after = (list(side) for side in zip(*(row.before_and_after(on) for row in cell), strict=True))
        mean, low, high = (100 * value for value in paired_interval(before, after))
        each = ", ".join(f"{100 * (b - a):+.1f}" for a, b in zip(before, after, strict=True))
        scores = [f"{mean:.2%} ± {deviation:.2%}" for mean, deviation in map(mean_and_deviation, (before, after))]
        found = (str(labels), mixing, *scores, f"{mean:+.2f}", f"{low:+.2f} to {high:+.2f}", each)
        table.append((*found, _significant(cell)) if tested else found)
    return markdown_table(table)


def _significant(rows: Sequence[GainRow]) -> str:
    """Return in how many rows the test on held-out images tells the classifiers apart, each way."""
    found = [row.stage3_test > row.stage1_test for row in rows if row.p_value is not None and row.p_value < 1 - LEVEL]
    return f"{sum(found)}, {len(found) - sum(found)}"
