"""Lines about the licences of the pretrained networks that a run uses: printed at its start, and in its report."""

from dpt_ray.config.schema import RunConfig
from dpt_ray.networks.pretrained.encoder_licences import encoder_licence


def licence_notes(config: RunConfig) -> list[str]:
    """Return a line for each network of the settings whose published weights are restricted."""
    stages = (config.stage1, config.stage3)
    places = [stage.probe.encoder for stage in stages if stage.model.name == "linear_probe"]
    if config.evaluation.generation and config.evaluation.network not in ("stage1", "inception"):
        places.append(config.evaluation.network)
    lines = [encoder_licence(place) for place in dict.fromkeys(places)]
    return [line for line in lines if line is not None]
