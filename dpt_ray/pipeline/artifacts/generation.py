"""How pseudo images compare with real ones, in the features of a network."""

from dataclasses import dataclass

from dpt_ray.core.metrics.kernel_distance import Spread
from dpt_ray.core.metrics.memorisation import Memorisation
from dpt_ray.core.metrics.neighbours import Support
from dpt_ray.data.storage.json_records import optional
from dpt_ray.pipeline.artifacts.step_facts import Facts
from dpt_ray.report.content import Metric

EQUAL_LABELS = "the same number of every class"
"""How the labels of pseudo images were drawn."""


STAGE_1 = "stage 1"
"""Name of the network if it is the stage-1 classifier."""


@dataclass(frozen=True, kw_only=True)
class GenerationFacts(Facts):
    """The facts of `MeasureGeneration`.

    Attributes:
        network: name of the network that computes the features.
        distance_name: what the distance is called; "FID" in the features of the published Inception-v3 alone.
        labels: how the labels of pseudo images were drawn.
        real_images: training images that moments were computed from; None if `reference` replaces them.
        reference: name of a file with reference statistics; None for the training images.
        pseudo_images: pseudo images.
        real_sample: training images that are compared one by one.
        training_images: all training images.
        pseudo_sample: pseudo images that are compared one by one.
        held_out_sample: held-out images that are compared one by one.
        distance: squared Fréchet distance between the Gaussians of real and pseudo images.
        spatial_distance: the same in spatial features: sFID. None if the network or the reference has none.
        kernel_distance: squared maximum mean discrepancy; KID in the features of the published Inception-v3.
        inception_score: None for another network.
        support: precision, recall, density and coverage.
        memorisation: distances to the nearest training image in the sample; None with fewer than two held-out images.
    """

    network: str
    distance_name: str
    labels: str
    real_images: int | None = optional()
    reference: str | None = optional()
    pseudo_images: int
    real_sample: int
    training_images: int
    pseudo_sample: int
    held_out_sample: int
    distance: float
    spatial_distance: float | None = optional()
    kernel_distance: Spread
    inception_score: Spread | None = optional()
    support: Support | None = optional()
    memorisation: Memorisation | None = optional()

    @property
    def is_of_stage1(self) -> bool:
        """Whether the distance is that between training and pseudo images in stage 1's features."""
        return self.network == STAGE_1 and self.reference is None

    @property
    def is_fid(self) -> bool:
        """Whether distances may be called FID, sFID and KID."""
        return self.distance_name == "FID"


def generation_metrics(facts: GenerationFacts) -> tuple[Metric, ...]:
    """Return the figures that are known, each with its meaning."""
    where = f"features of {facts.network}"
    against = facts.reference or f"{facts.real_images:,} training images"
    sets = f"{facts.pseudo_images:,} pseudo images ({facts.labels}) against {against}; {where}. "
    sample = f"{facts.pseudo_sample:,} pseudo and {facts.real_sample:,} training images; {where}. "
    note = f"{where}, {facts.pseudo_images:,} pseudo images against {against}"
    kernel, score, support = facts.kernel_distance, facts.inception_score, facts.support
    spatial_name = "sFID" if facts.is_fid else f"{facts.distance_name}, spatial"
    found: list[tuple[str, str, float | None, str]] = [
        ("distance", facts.distance_name, facts.distance, f"{sets}Lower is better; 0 is equal."),
        ("spatial_distance", spatial_name, facts.spatial_distance, f"{sets}Lower is better; it sees places in images."),
        ("kernel_distance", "KID" if facts.is_fid else "kernel distance", kernel.mean,
         f"Mean over subsets, ± {kernel.deviation:.2g}. {sample}Lower is better; near 0, or below, is equal."),
        ("inception_score", "inception score", score.mean if score else None,
         f"Mean over splits, ± {score.deviation if score else 0:.2g}; {where}. Higher is better."),
    ]  # fmt: skip
    if support is not None:
        found += [
            ("precision", "precision", support.precision, f"Share of pseudo images among real ones. {sample}"),
            ("recall", "recall", support.recall, f"Share of real images among pseudo ones. {sample}"),
            ("density", "density", support.density,
             f"How densely real images surround pseudo ones; about 1 for equal distributions. {sample}"),
            ("coverage", "coverage", support.coverage, f"Share of real images with a pseudo image near them. {sample}"),
        ]  # fmt: skip
    return tuple(
        Metric(f"generation_{id}", name, value, "", meaning.strip(), note=note)
        for id, name, value, meaning in (*found, *_memorised(facts, where))
        if value is not None
    )


def _memorised(facts: GenerationFacts, where: str) -> list[tuple[str, str, float | None, str]]:
    found = facts.memorisation
    if found is None:
        return []
    among = f"nearest of {facts.real_sample:,} of {facts.training_images:,} training images; {where}. "
    return [
        ("closer_probability", "closer to training images than held-out ones", found.closer_probability,
         f"Probability that a pseudo image is closer to its {among}"
         f"95% interval {found.interval.low:.3g} to {found.interval.high:.3g}; 0.5 is no difference."),
        ("close_share", "as close as the closest 1% of held-out images", found.close_share,
         f"Share of pseudo images, by the {among}Above 0.01 hints at copies."),
        ("distance_ratio", "median distance to training images, pseudo over held-out", found.median_ratio,
         f"By the {among}Below 1 hints at copies."),
    ]  # fmt: skip
