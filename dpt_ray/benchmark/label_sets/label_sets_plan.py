"""The settings of the label sets: those of `configs/cifar10_minutes.yaml`, or tiny ones for a rehearsal."""

from dataclasses import dataclass

from dpt_ray.benchmark.time_to_quality.plan import UNREAD
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.config.load import load_config
from dpt_ray.config.pseudo_data_section import SamplingConfig

HEADS = ("logistic", "propagation")


@dataclass(frozen=True)
class LabelSetsPlan:
    """The settings of all label sets.

    Attributes:
        generator: the section of the training without labels.
        further_images: length of each training on pseudo-labels.
        clusters: clusters that the training without labels is conditioned on.
        sampling: the section of sampling.
        pseudo_per_class: pseudo images of each class.
        scored_images: images that are drawn for a distance.
        row_steps: steps between two distances of the training without labels.
        drawn_together: images that are drawn at once.
        side: height and width in pixels to which images are enlarged for the encoder.
        per_class: numbers of labels of each class.
        seeds: seeds of the choice of labelled images.
    """

    generator: GeneratorConfig
    further_images: int
    sampling: SamplingConfig
    clusters: int = 40
    pseudo_per_class: int = 500
    scored_images: int = 5000
    row_steps: int = 4000
    drawn_together: int = 1000
    side: int = 224
    per_class: tuple[int, ...] = (1, 2, 5, 10)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)


def full_plan(configuration: str) -> LabelSetsPlan:
    """Return the plan of the real run. A training on pseudo-labels has a fortieth of the images of that without."""
    base = load_config(configuration, [*UNREAD, "stage2.images=12000000"])
    return LabelSetsPlan(base.stage2, 300_000, base.sampling)


def tiny_plan(configuration: str) -> LabelSetsPlan:
    """Return the same plan with a tiny network and few images."""
    base = load_config(
        configuration,
        [
            *UNREAD,
            "stage2.model={name: uvit, patch_size: 8, dim: 16, depth: 2, heads: 2, dropout: 0.0}",
            "stage2.batch=16",
            "stage2.images=320",
            "stage2.precision=float32",
            "sampling.steps=2",
            "sampling.precision=float32",
        ],
    )
    return LabelSetsPlan(
        base.stage2,
        32,
        base.sampling,
        clusters=20,
        pseudo_per_class=3,
        scored_images=20,
        row_steps=10,
        drawn_together=10,
        side=64,
        per_class=(1,),
        seeds=(0,),
    )
