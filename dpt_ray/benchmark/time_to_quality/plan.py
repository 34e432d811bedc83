"""The settings of the run: those of `configs/cifar10_minutes.yaml`, or tiny ones for a rehearsal."""

from dataclasses import dataclass

from dpt_ray.benchmark.time_to_quality.progress_record import Stage
from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.config.load import load_config
from dpt_ray.config.pseudo_data_section import SamplingConfig

UNREAD = ("data.train=unread", "data.test=unread")
"""The run reads CIFAR-10 by itself."""

EDM = (
    "stage2.process=edm",
    "stage2.optimizer.learning_rate=0.001",
    "stage2.ema_decay=0.999",
)

CANDIDATES: dict[str, tuple[str, ...]] = {
    "U-ViT of 17 million parameters": (),
    "U-ViT of 44 million parameters": (
        "stage2.model={name: uvit, patch_size: 2, dim: 512, depth: 12, heads: 8, dropout: 0.0}",
    ),
    "DDPM++ of 14 million parameters": (
        "stage2.model={name: ddpmpp, channels: 64, multipliers: [2, 2, 2], blocks: 4, dropout: 0.13}",
        *EDM,
    ),
    "DDPM++ of 56 million parameters": (
        "stage2.model={name: ddpmpp, channels: 128, multipliers: [2, 2, 2], blocks: 4, dropout: 0.13}",
        *EDM,
    ),
}
"""Name -> the settings by which a candidate differs from `configs/cifar10_minutes.yaml`."""

PATIENCE = 30
"""Rows without a better one after which a classifier's accuracy no longer rises."""


@dataclass(frozen=True)
class Plan:
    """The settings of all stages.

    Attributes:
        stage1, stage3: the sections of the classifiers.
        candidates: name -> the section of a generator.
        sampling: the section of sampling.
        labels_per_class: labelled images of each class.
        row_steps, generator_row_steps: steps between two scores.
        scored_images: images that are drawn for a distance.
        pseudo_images: images that are drawn for stage 3.
        drawn_together: images that are drawn at once.
    """

    stage1: ClassifierConfig
    stage3: ClassifierConfig
    candidates: dict[str, GeneratorConfig]
    sampling: SamplingConfig
    labels_per_class: int = 4
    row_steps: int = 1000
    generator_row_steps: int = 2000
    scored_images: int = 5000
    pseudo_images: int = 10_000
    drawn_together: int = 1000

    def no_longer_rises(self, stage: Stage) -> bool:
        """Whether none of the last `PATIENCE` rows is better than all before them."""
        scores = [row.score for row in stage.rows]
        return len(scores) > PATIENCE and max(scores[-PATIENCE:]) <= max(scores[:-PATIENCE])


def full_plan(configuration: str) -> Plan:
    """Return the plan of the real run; 2^17 steps of FreeMatch in stages 1 and 3 at most."""
    steps = ("stage1.images=67108864", "stage3.images=67108864")
    base = load_config(configuration, [*UNREAD, *steps])
    candidates = {name: load_config(configuration, [*UNREAD, *sets]).stage2 for name, sets in CANDIDATES.items()}
    return Plan(base.stage1, base.stage3, candidates, base.sampling)


def tiny_plan(configuration: str) -> Plan:
    """Return the same plan with tiny networks and few images."""
    classifiers = [
        f"{stage}.{setting}"
        for stage in ("stage1", "stage3")
        for setting in (
            "model={name: small_cnn, width: 4}",
            "labelled_batch=16",
            "unlabelled_batch=32",
            "images=960",
            "precision=float32",
        )
    ]
    generators = ["stage2.batch=16", "stage2.images=320", "stage2.precision=float32"]
    tiny = {
        "U-ViT": ["stage2.model={name: uvit, patch_size: 8, dim: 16, depth: 2, heads: 2, dropout: 0.0}"],
        "DDPM++": ["stage2.model={name: ddpmpp, channels: 8, multipliers: [1, 1], blocks: 1, dropout: 0.1}", *EDM],
    }
    sampling = ["sampling.steps=2", "sampling.precision=float32"]
    base = load_config(configuration, [*UNREAD, *classifiers, *sampling])
    candidates = {name: load_config(configuration, [*UNREAD, *generators, *sets]).stage2 for name, sets in tiny.items()}
    return Plan(
        base.stage1,
        base.stage3,
        candidates,
        base.sampling,
        row_steps=5,
        generator_row_steps=5,
        scored_images=20,
        pseudo_images=30,
        drawn_together=10,
    )
