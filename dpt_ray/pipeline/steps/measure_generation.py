"""Pseudo images against real ones, from statistics of both in the features of one network."""

from dpt_ray.core.metrics.frechet import Gaussian, gaussian_distance
from dpt_ray.core.metrics.kernel_distance import kernel_distance
from dpt_ray.core.metrics.memorisation import Memorisation, compare_distances
from dpt_ray.core.metrics.neighbours import WIDE, compare_supports, nearest_distances
from dpt_ray.core.metrics.set_statistics import SetStatistics
from dpt_ray.errors import UserError
from dpt_ray.json_values import Json, JsonObject
from dpt_ray.networks.metric_networks import MetricNetwork, Space
from dpt_ray.networks.reference_statistics import FoundReference, ReferenceStatistics, read_reference
from dpt_ray.pipeline.artifacts.feature_statistics import read_statistics
from dpt_ray.pipeline.artifacts.generation import EQUAL_LABELS, STAGE_1, GenerationFacts
from dpt_ray.pipeline.execution.step import Step, StepContext

_NAMES: dict[Space, str] = {"fid": "FID", "dinov2_large": "FD-DINOv2"}


class MeasureGeneration(Step[GenerationFacts]):
    """Compute distances, precision, recall, density, coverage and memorisation of pseudo images.

    Args:
        network: the network of the features; None for stage 1.
        reference: reference statistics in place of the training images'.
        train_data: makes statistics of the training images.
        pseudo_images: makes those of the pseudo images.
        test_data: makes those of the held-out images.
    """

    name = "generation"
    facts_type = GenerationFacts

    def __init__(
        self,
        network: MetricNetwork | None,
        reference: FoundReference | None,
        *,
        train_data: Step,
        pseudo_images: Step,
        test_data: Step,
    ):
        self._network, self._reference = network, reference
        parents = {"train_data": train_data, "pseudo_images": pseudo_images, "test_data": test_data}
        super().__init__("generation metrics", parents)

    @property
    def settings(self) -> JsonObject:
        settings: dict[str, Json] = {"network": self._name}
        if self._reference is not None:
            settings["reference"] = self._reference.identity
        return settings

    @property
    def _name(self) -> str:
        return STAGE_1 if self._network is None else self._network.name

    def plan(self) -> str:
        return f"comparing pseudo images with real ones ({self._name})"

    def make(self, context: StepContext) -> GenerationFacts:
        real, pseudo, held_out = (
            read_statistics(context.parents[name]) for name in ("train_data", "pseudo_images", "test_data")
        )
        real_sample, pseudo_sample = real.sample.features, pseudo.sample.features
        reference = read_reference(self._reference) if self._reference else None
        distance, spatial = _distances(real, pseudo, reference, self._reference.url if self._reference else "")
        enough = min(len(real_sample), len(pseudo_sample)) > WIDE
        return GenerationFacts(
            network=self._name,
            distance_name=_NAMES.get(self._network.space, "Fréchet distance") if self._network else "Fréchet distance",
            labels=EQUAL_LABELS,
            real_images=None if reference else real.images,
            reference=self._reference.name if self._reference else None,
            pseudo_images=pseudo.images,
            real_sample=len(real_sample),
            training_images=real.images,
            pseudo_sample=len(pseudo_sample),
            held_out_sample=len(held_out.sample.features),
            distance=distance,
            spatial_distance=spatial,
            kernel_distance=kernel_distance(real_sample, pseudo_sample),
            inception_score=pseudo.scores.score() if pseudo.scores else None,
            support=compare_supports(real_sample, pseudo_sample) if enough else None,
            memorisation=_memorisation(real, pseudo, held_out),
        )

    def summary(self, facts: GenerationFacts) -> str:
        text = f"{facts.distance_name} {facts.distance:.4g}"
        if facts.support is not None:
            text += f", precision {facts.support.precision:.3f}, recall {facts.support.recall:.3f}"
        return f"{text}; {facts.network}"


def _distances(
    real: SetStatistics, pseudo: SetStatistics, reference: ReferenceStatistics | None, where: str
) -> tuple[float, float | None]:
    """Return the distances in pooled and in spatial features; None for the latter if a side has none."""
    pooled = reference.pooled if reference else real.moments.gaussian()
    spatial = reference.spatial if reference else real.spatial.gaussian() if real.spatial else None
    found = _distance(pooled, pseudo.moments.gaussian(), where)
    if spatial is None or pseudo.spatial is None:
        return found, None
    return found, _distance(spatial, pseudo.spatial.gaussian(), where)


def _distance(real: Gaussian, pseudo: Gaussian, where: str) -> float:
    if len(real.mean) != len(pseudo.mean):
        raise UserError(
            f"has statistics of {len(real.mean):,} features, but the network has {len(pseudo.mean):,}",
            where=where,
            fix="give the statistics of the network's features, or another evaluation.network",
        )
    return gaussian_distance(real, pseudo)


def _memorisation(real: SetStatistics, pseudo: SetStatistics, held_out: SetStatistics) -> Memorisation | None:
    if min(len(pseudo.sample.features), len(held_out.sample.features)) < 2:
        return None
    return compare_distances(
        nearest_distances(pseudo.sample.features, real.sample.features),
        nearest_distances(held_out.sample.features, real.sample.features),
    )
