"""Builds processes, weightings and guidance from settings."""

import math

from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.core.diffusion import weighting
from dpt_ray.core.diffusion.denoiser import Denoiser
from dpt_ray.core.diffusion.discrete_schedule import DiscreteVariancePreserving
from dpt_ray.core.diffusion.flow_matching import FlowMatching
from dpt_ray.core.diffusion.guidance import autoguided, between, guided, guided_levels
from dpt_ray.core.diffusion.processes import EdmPreconditioning, Process, VariancePreserving
from dpt_ray.core.diffusion.samplers import find_sampler, sampling_grid

_PASSES_BY_ENTROPY = 3
"""Forward passes that an evaluation with a backward pass takes the time of."""


def build_process(config: GeneratorConfig) -> Process:
    """Return the diffusion process of a generator."""
    if config.process == "flow_matching":
        return FlowMatching(times=config.flow_times)
    return {
        "variance_preserving": VariancePreserving,
        "discrete_variance_preserving": DiscreteVariancePreserving,
        "edm": EdmPreconditioning,
    }[config.process]()


def build_weighting(config: GeneratorConfig) -> weighting.Weighting | None:
    """Return the loss weighting of a generator; None for the process's own."""
    if config.loss_weighting == "min_snr":
        return weighting.min_snr(config.min_snr_gamma)
    return weighting.edm() if config.loss_weighting == "edm" else None


def build_guidance(
    config: SamplingConfig, denoiser: Denoiser, null_label: int, weak: Denoiser | None = None
) -> Denoiser:
    """Return `denoiser` with the guidance of `config`.

    `weak` is the weaker model: an early snapshot, or the network at confidence 0; None for classifier-free guidance.
    """
    if config.guidance_method == "classifier_free":
        inside = guided(denoiser, config.guidance_scale, null_label)
    else:
        assert weak is not None
        inside = autoguided(denoiser, weak, config.guidance_scale)
    if config.guidance_interval is None:
        return inside
    return between(inside, denoiser, *config.guidance_interval)


def reaches_guidance(config: SamplingConfig, process: Process) -> bool:
    """Whether any noise level of a process can lie in the guidance interval."""
    low, high = config.guidance_interval or (0, math.inf)
    return low <= process.sigma_max and process.sigma_min <= high


def lacks_times(config: SamplingConfig, process: Process) -> bool:
    """Whether the sampler needs a grid uniform in time, and the noise levels of the process are no function of time."""
    return process.schedule is None and find_sampler(config.sampler).sigmas is None


def evaluations_per_image(config: SamplingConfig, process: Process) -> int:
    """Return the number of network evaluations for an image; a guided one counts twice, by entropy three times."""
    grid = sampling_grid(config.sampler, config.steps, process.sigma_min, process.sigma_max, process.schedule)
    levels = find_sampler(config.sampler).evaluated(grid)
    evaluations = len(levels)
    if config.guidance_scale > 0:
        evaluations += guided_levels(levels, *(config.guidance_interval or (0, math.inf)))
    return _PASSES_BY_ENTROPY * evaluations if config.entropy_scale > 0 else evaluations
