"""What is known of the licences of published encoders whose use is restricted, for a line at the start of a run."""

from dpt_ray.core.models.efficientnet_lite import LITE
from dpt_ray.core.models.frozen_encoder import CONFIG
from dpt_ray.core.models.pretrained import parse_config
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.networks.pretrained.model_files import is_folder

_DINOV3 = "published under Meta's DINOv3 License, and the hub asks for consent before a download"
_HIERA = "published under CC BY-NC 4.0: for non-commercial use alone"

RESTRICTED = {"dinov3_vit": _DINOV3, "dinov3_convnext": _DINOV3, "hiera": _HIERA}
"""Family of transformers -> the terms of its published weights, as their model cards say."""

_ON_HUB = {"facebook/dinov3": _DINOV3, "facebook/hiera": _HIERA}
"""Beginning of names on the hub -> the same."""


def encoder_licence(location: str) -> str | None:
    """Return a line about the licence of an encoder, if its published weights are restricted; None otherwise.

    Args:
        location: the value of `probe.encoder`. Of a folder its family counts: whoever trained the weights of a folder
            anew is free of these terms, which the line says.
    """
    if location == LITE:
        return None
    if not is_folder(location):
        terms = next((terms for begin, terms in _ON_HUB.items() if location.lower().startswith(begin)), None)
        return terms and f"{location} is {terms}"
    family = _family(location)
    terms = RESTRICTED.get(family)
    return (
        terms and f"{location} is of the family {family}, whose published weights are {terms.replace('published ', '')}"
    )


def _family(folder: str) -> str:
    """Return `model_type` of an encoder's configuration; empty if it cannot be read, which loading reports."""
    try:
        return str(parse_config(stores.read_bytes(stores.join(folder, CONFIG))).get("model_type"))
    except (UserError, ValueError, RecursionError):
        return ""
