"""Measures the gain of stage 3 over stage 1, by labels a class, mixing of pseudo images, and head of a probe."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dpt_ray.config.schema import RunConfig
from dpt_ray.core.metrics.uncertainty import LEVEL
from dpt_ray.data.storage.json_records import Record, optional
from dpt_ray.experiments.many_runs import Make, measure_all
from dpt_ray.experiments.statistics import mean_and_deviation, paired_interval, score_text
from dpt_ray.experiments.study.algorithm_comparison import seeded
from dpt_ray.experiments.study.choices import HEADS, MIXINGS
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
        head: a key of `HEADS`, of the probes of both stages; None if it is that of the configuration.
    """

    per_class: int
    mixing: str
    seed: int
    stage1_test: float
    stage3_test: float
    stage1_unlabelled: float
    stage3_unlabelled: float
    p_value: float | None = optional()
    head: str | None = optional()

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
    heads: Sequence[str] = (),
) -> list[GainRow]:
    """Run the method for all combinations of `per_class`, `mixings`, `seeds` and `heads`.

    Args:
        config: YAML file that all runs refine.
        root: root of the runs' artifacts.
        per_class: numbers of labelled images of each class.
        mixings: keys of `MIXINGS`.
        seeds: seeds of the runs.
        processes: runs at the same time.
        say: called with a line of text when a run ends.
        heads: keys of `HEADS`; none for the classifier of the configuration.

    Raises:
        UserError: a run's settings are wrong, or it failed.
    """
    # Runs of one seed share steps. They are far apart in this order: neighbours run at the same time, and one would
    # wait for the other.
    cells = [
        (labels, mixing, seed, head)
        for mixing in mixings
        for head in heads or (None,)
        for labels in per_class
        for seed in seeds
    ]
    runs = {
        f"{labels} a class, seed {seed}, {mixing}" + (f", {head}" if head else ""): [
            f"root={root}", f"labels.per_class={labels}", *seeded(seed), *MIXINGS[mixing], *_head_settings(head),
        ]
        for labels, mixing, seed, head in cells
    }  # fmt: skip
    figures = measure_all(runs, _accuracies, config=config, processes=processes, say=say)
    rows = [
        GainRow(labels, mixing, seed, **measured, head=head)
        for (labels, mixing, seed, head), measured in zip(cells, figures.values(), strict=True)
    ]
    return sorted(rows, key=lambda row: row.per_class)


def _head_settings(head: str | None) -> list[str]:
    return [f"stage1.probe.{name}={json.dumps(value)}" for name, value in HEADS[head].items()] if head else []


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
    by_head = any(row.head for row in rows)
    varied = ("labels a class", "mixing", *(["head"] if by_head else []))
    columns = (*varied, "stage 1", "stage 3", "gain, points", "95 % interval", "seed by seed")
    table: list[tuple[str, ...]] = [(*columns, "p < 0.05, better or worse") if tested else columns]
    for labels, mixing, head in dict.fromkeys((row.per_class, row.mixing, row.head) for row in rows):
        cell = [row for row in rows if (row.per_class, row.mixing, row.head) == (labels, mixing, head)]
        before, after = (list(side) for side in zip(*(row.before_and_after(on) for row in cell), strict=True))
        interval = ""  # of one seed there is none
        if len(cell) > 1:
            _, low, high = (100 * value for value in paired_interval(before, after))
            interval = f"{low:+.2f} to {high:+.2f}"
        gain = 100 * (mean_and_deviation(after)[0] - mean_and_deviation(before)[0])
        each = ", ".join(f"{100 * (b - a):+.1f}" for a, b in zip(before, after, strict=True))
        scores = [score_text(values, digits=2) for values in (before, after)]
        what = (str(labels), mixing, *([head or ""] if by_head else []))
        found = (*what, *scores, f"{gain:+.2f}", interval, each)
        table.append((*found, _significant(cell)) if tested else found)
    return markdown_table(table)


def _significant(rows: Sequence[GainRow]) -> str:
    """Return in how many rows the test on held-out images tells the classifiers apart, each way."""
    found = [row.stage3_test > row.stage1_test for row in rows if row.p_value is not None and row.p_value < 1 - LEVEL]
    return f"{sum(found)}, {len(found) - sum(found)}"
