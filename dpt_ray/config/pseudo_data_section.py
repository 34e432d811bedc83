"""Sections `pseudo_labels` and `sampling`: what stages 1 and 2 make for the next stage."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dpt_ray.config.effects import ReadWhen, read_with
from dpt_ray.config.section import Count, Positive, Section
from dpt_ray.plugins import OrPlugin


class PseudoLabelsConfig(Section):
    top_k: Count = 5
    """Number of most probable classes, at most all, that are stored for every image with their probabilities."""
    views: Annotated[int, Field(ge=0)] = 0
    """Number of weak views of an image (stage 1's augmentation) over which confidence is averaged; 0 uses the
    unaugmented image. The label always comes from the unaugmented image. A linear probe does not support views."""
    assignment: Literal["argmax", "balanced"] = "argmax"
    """`argmax`: the most probable class, as published. `balanced`: labels whose counts follow `class_shares` (optimal
    transport); it helps where one label a class leaves classes nearly empty."""
    class_shares: tuple[Positive, ...] | None = None
    """balanced: share of the images of each class, in the order of ids; equal shares by default."""
    sharpness: Annotated[Positive, read_with("assignment", "balanced")] = 1.0
    """balanced: exponent of the probabilities. 1 corrects them for the shares; higher values change fewer labels."""

    @model_validator(mode="after")
    def _shares_are_used(self) -> "PseudoLabelsConfig":
        if self.class_shares is not None and self.assignment != "balanced":
            raise ValueError("class_shares has an effect with assignment=balanced alone; set assignment=balanced")
        return self


_GUIDED = ReadWhen("guidance_scale above 0", lambda sampling: sampling.guidance_scale > 0)
_BY_ENTROPY = ReadWhen("entropy_scale above 0", lambda sampling: sampling.entropy_scale > 0)


class SamplingConfig(Section):
    per_class: Count = 100
    """Number of pseudo images of every class (the paper's K)."""
    guidance_scale: Annotated[float, Field(ge=0)] = 0.4
    """s in eps + s (eps - eps_null), the paper's convention: 0 turns guidance off. Other papers write w = 1 + s."""
    guidance_method: Annotated[Literal["classifier_free", "autoguidance", "confidence"], _GUIDED] = "classifier_free"
    """Weaker prediction from which guidance extrapolates. `classifier_free`: the same network without a label, as
    published. `autoguidance`: an early snapshot of the network, `weak_snapshot`; it needs no label dropout.
    `confidence`: the same network at the same label with confidence 0 (Dufour et al. 2024, arXiv 2405.20324); it needs
    `stage2.conditioning.confidence` and no label dropout."""
    weak_snapshot: Annotated[Count, _GUIDED, read_with("guidance_method", "autoguidance")] = 1
    """autoguidance: number of the snapshot (`stage2.ema_snapshots`) that is the weak network; 1 is the earliest."""
    guidance_interval: Annotated[tuple[Annotated[float, Field(ge=0)], Positive] | None, _GUIDED] = None
    """[low, high]: noise levels with guidance; fewer levels save evaluations and keep diversity. A level is sigma in
    image + sigma * noise, for images in [-1, 1]; in flow matching it is t / (1 - t). By default all levels are
    guided."""
    entropy_scale: Annotated[float, Field(ge=0), _BY_ENTROPY] = 0.0
    """omega of entropy guidance (Askari-Hemmat et al. 2025, arXiv 2502.15588): above 0, images move to where stage 1 is
    unsure of their class. It needs a stage 1 that is no linear probe, and a generator of pixels. An evaluation takes
    about three times as long."""
    sampler: Annotated[
        Literal[
            "euler", "heun", "dpm_solver_pp_2m", "dpm_solver_pp_2m_karras", "dpm_solver_fast", "dpm_solver_pp_fast"
        ],
        OrPlugin("samplers"),
    ] = "dpm_solver_pp_2m"
    """Solver of the probability-flow ODE. `_karras`: EDM's noise levels instead of uniform log-SNR. `_fast`: the
    paper's solvers of third order without a final denoising step, with 50 steps: `dpm_solver_fast` for U-ViT-L (uniform
    log-SNR), `dpm_solver_pp_fast` for U-ViT-H (uniform time, which `edm` does not have)."""
    steps: Count = 20
    """Number of intervals between the solver's noise levels. An interval takes one network evaluation; with `heun` all
    but the last take two. `_fast` solvers combine three intervals to a step of third order. Guidance doubles the
    evaluations."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the network's computation. `bfloat16`: autocast; the solver keeps its precision. It is for
    GPUs that support bfloat16 and CPUs with AMX; other CPUs only emulate it."""
    ema_width: Annotated[float, Field(gt=0, lt=0.28)] | None = None
    """Sample with a power-function average of the weights of this relative width (0.05: over about the last 5 % of the
    training) instead of stage 2's own average. It needs `stage2.ema_snapshots` and no new training."""
    images_per_shard: Count = 250
    """Number of pseudo images in an output shard. A shard is the unit of work and of resuming."""
    seed: int = 0
    """Together with the run's seed it fixes every image."""

    @model_validator(mode="after")
    def _interval_is_one(self) -> "SamplingConfig":
        if self.guidance_interval is not None and self.guidance_interval[0] >= self.guidance_interval[1]:
            low, high = self.guidance_interval
            raise ValueError(f"guidance_interval must be [low, high] with low < high: got [{low:g}, {high:g}]")
        return self
