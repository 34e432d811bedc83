"""Figures of the paper beside those of a run that corresponds to a row of its tables (docs/reference/paper.md)."""

from collections.abc import Sequence

from dpt_ray.config.schema import RunConfig
from dpt_ray.pipeline.artifacts.evaluation import EvaluationFacts
from dpt_ray.report.content import PublishedFigure

_STAGE1, _STAGE3 = "stage 1 accuracy", "stage 3 accuracy"
_DEMO = "official repository DPT-demo, table of classification, MSN B/4, K = 128"
_PUBLISHED = {
    ("cifar10", 4): (
        (_STAGE1, 1 - 0.0497, "TorchSSL's FreeMatch alone, 40 labels: error 4.97 ± 0.09 %"),
        (_STAGE3, 1 - 0.0468, "the paper's DPT, 40 labels, from a leaderboard: error 4.68 %"),
    ),
    ("imagenet", 1): ((_STAGE1, 0.529, _DEMO), (_STAGE3, 0.586, _DEMO)),
    ("imagenet", 2): ((_STAGE1, 0.649, _DEMO), (_STAGE3, 0.695, _DEMO)),
    ("imagenet", 5): ((_STAGE1, 0.724, _DEMO), (_STAGE3, 0.736, _DEMO)),
}
"""Data and labelled images of each class -> figures with their sources."""
_DATA = {"cifar10": "cifar10", "imagenet256_l": "imagenet", "imagenet256_h": "imagenet"}
"""Preset -> data."""


def published_figures(
    config: RunConfig, labelled_per_class: Sequence[int], metrics: EvaluationFacts
) -> tuple[PublishedFigure, ...]:
    """Return the paper's figures for the data and the labels of a run, beside its own; empty where there are none.

    Args:
        config: settings of the run; its preset says which data it is for.
        labelled_per_class: labelled images of each class.
        metrics: of the run.
    """
    counts = set(labelled_per_class)
    if len(counts) != 1 or config.preset not in _DATA:
        return ()
    ours = {_STAGE1: metrics.stage1_accuracy, _STAGE3: metrics.stage3_accuracy}
    rows = _PUBLISHED.get((_DATA[config.preset], counts.pop()), ())
    return tuple(PublishedFigure(name, ours[name], value, source) for name, value, source in rows)
