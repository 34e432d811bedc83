"""Pseudo-labels whose counts follow given class shares; the sidecars have the columns of predictions."""

from dataclasses import dataclass

from dpt_ray.pipeline.artifacts.predictions import PredictedShard, PredictionsFacts


@dataclass(frozen=True, kw_only=True)
class BalancedLabelsFacts(PredictionsFacts):
    """The facts of `BalancedLabels`.

    Attributes:
        moved: images whose label is not the most probable class.
        converged: whether the balancing reached its tolerance.
        error: its error at the end.
        largest_miss: largest relative difference between the images of a class and its share.
    """

    moved: int
    converged: bool
    error: float
    largest_miss: float


@dataclass(frozen=True, kw_only=True)
class BalancedShard(PredictedShard):
    """What a worker reports of one shard.

    Attributes:
        moved: images whose label is not the most probable class.
    """

    moved: int = 0
