"""Every setting of a run, typed and bounded; `load.py` turns files and overrides into one `RunConfig`.

Each section has a file of its own (`*_section.py`). The docstring under a field gives its meaning and unit. Amounts of
work are counted in images, never in steps. Settings of `cluster` change no result. Every other setting enters the
address of the steps that read it (`pipeline/execution/step.py`).
"""

from typing import get_args

from pydantic import model_validator

from dpt_ray.config.classifier_section import ClassifierConfig, ClassifierModelConfig
from dpt_ray.config.cluster_section import ClusterConfig
from dpt_ray.config.consistency import check_consistent
from dpt_ray.config.data_section import LABEL_CHOICES, DataConfig, LabelsConfig
from dpt_ray.config.encoder_section import EncoderConfig
from dpt_ray.config.evaluation_section import EvaluationConfig
from dpt_ray.config.generator_section import GeneratorConfig, GeneratorModelConfig
from dpt_ray.config.places import Name, Place, Root
from dpt_ray.config.pseudo_data_section import PseudoLabelsConfig, SamplingConfig
from dpt_ray.config.section import Section
from dpt_ray.plugins import Group

ONE_OF: dict[str, tuple[tuple[str, ...], ...]] = {
    "labels": tuple((name,) for name in LABEL_CHOICES),
    "data": (("class_names",), ("class_file",)),
    "stage2": (("ema_decay",), ("ema_half_life", "ema_ramp")),
}
"""Section -> alternatives, each of one or more settings. Where layers of settings merge, a setting of one alternative
replaces those of the others in lower layers."""


class TrackingConfig(Section):
    """Who receives what a run measures while it runs. No setting here changes a result or an address."""

    tensorboard: bool = True
    """Write TensorBoard's event files beside the run, in its folder `tensorboard`."""
    mlflow: Place | None = None
    """URI of an MLflow tracking server, or the path of a SQLite database (which needs the whole package `mlflow`)."""
    wandb: str | None = None
    """Project of Weights & Biases. The variable WANDB_MODE=offline keeps its files local."""


class RunConfig(Section):
    """One run of dual pseudo training."""

    preset: str | None = None
    """Name of the preset that gives the defaults of the other settings."""
    name: Name = "run"
    """Name of the run's folder below `<root>/runs/`, without slashes."""
    root: Root = "dpt_results"
    """Folder or object-store URL for all results. Runs share the artifacts in it."""
    seed: int = 0
    """Seed of the run, combined with every stage's own seed. `labels.seed`, which draws the labelled images, is
    independent of it."""
    data: DataConfig = DataConfig()
    labels: LabelsConfig = LabelsConfig(per_class=4)
    stage0: EncoderConfig = EncoderConfig()
    """Stage 0, which a run has with `probe.encoder: stage0`: an encoder that learns from the training images without
    any label."""
    stage1: ClassifierConfig = ClassifierConfig()
    """Stage 1: the semi-supervised classifier that predicts a label for every image."""
    pseudo_labels: PseudoLabelsConfig = PseudoLabelsConfig()
    """Stage 1's predictions for every training image."""
    stage2: GeneratorConfig = GeneratorConfig()
    """Stage 2: the class-conditional diffusion model trained on pseudo-labels."""
    sampling: SamplingConfig = SamplingConfig()
    """Pseudo images drawn from the generator."""
    stage3: ClassifierConfig = ClassifierConfig()
    """Stage 3: the classifier retrained on real and pseudo images. A file gives only the differences from stage1."""
    evaluation: EvaluationConfig = EvaluationConfig()
    cluster: ClusterConfig = ClusterConfig()
    tracking: TrackingConfig = TrackingConfig()
    """Who receives what a run measures while it runs."""

    @property
    def has_stage0(self) -> bool:
        """Whether a stage's probe uses the encoder of stage 0."""
        return any(s.model.name == "linear_probe" and s.probe.own_encoder for s in (self.stage1, self.stage3))

    @model_validator(mode="after")
    def _consistent(self) -> "RunConfig":
        check_consistent(self)
        return self


_PLUGGABLE: dict[str, tuple[tuple[type[Section], str], ...]] = {
    "samplers": ((SamplingConfig, "sampler"),),
    "formats": ((DataConfig, "format"),),
    "networks": ((ClassifierModelConfig, "name"), (GeneratorModelConfig, "name")),
}
"""The settings that take names of each group of plug-ins."""


def built_in_names(group: Group) -> tuple[str, ...]:
    """Return the names that no plug-in of a group may have."""
    embedded = ("digits",) if group == "formats" else ()
    return embedded + tuple(
        name for section, field in _PLUGGABLE[group] for name in get_args(section.model_fields[field].annotation)
    )
