"""Loading the encoder of a probe: that of a stage 0, or a pretrained one."""

import json

from dpt_ray.config.probe_section import STAGE0, ProbeConfig
from dpt_ray.core.models.frozen_encoder import CONFIG, WEIGHTS
from dpt_ray.core.models.pretrained import parse_config
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.networks.own_encoder import OwnEncoder
from dpt_ray.networks.pretrained import encoders, model_files

ProbeEncoder = encoders.Encoder | OwnEncoder

_FAMILY = "dpt_ray"
"""`model_type` in the `config.json` of an exported encoder of stage 0."""
_ENDING = ".safetensors"
"""Of the file of an encoder of stage 0, which needs no folder."""


def open_probe_encoder(location: str, probe: ProbeConfig, device: str = "cpu") -> ProbeEncoder:
    """Load an encoder.

    Args:
        location: the file or the exported folder of an encoder of stage 0; otherwise as `open_encoder`.
        probe: the section `probe`: crop and number of blocks, which an encoder of stage 0 does not read.
        device: device of the encoder.

    Raises:
        UserError: see `open_encoder` and `OwnEncoder`.
    """
    if location == STAGE0:
        raise UserError("is the encoder of a run, whose file is wanted here", where=STAGE0)
    if location.endswith(_ENDING):
        return OwnEncoder(location).to(device)
    if _is_own(location):
        return OwnEncoder(stores.join(location, WEIGHTS)).to(device)
    return encoders.open_encoder(location, crop=probe.crop, blocks=probe.blocks, device=device)


def exported_own_encoder(encoder: OwnEncoder) -> dict[str, bytes]:
    """Return the files of a folder from which `open_probe_encoder` loads this encoder, by name."""
    return {CONFIG: json.dumps({"model_type": _FAMILY}).encode(), WEIGHTS: stores.read_bytes(encoder.url)}


def _is_own(location: str) -> bool:
    """Whether a location is the exported folder of an encoder of stage 0; `open_encoder` reports an unreadable one."""
    if not model_files.is_folder(location):
        return False
    file = stores.join(location, CONFIG)
    try:
        return stores.exists(file) and parse_config(stores.read_bytes(file)).get("model_type") == _FAMILY
    except (ValueError, RecursionError):
        return False
