"""Files of trained networks: safetensors that say what they hold."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from dpt_ray.core.models.pretrained import check_repetitions
from dpt_ray.core.state_mismatch import describe_mismatch
from dpt_ray.core.weights import load_network
from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.text import one_line

NETWORK_FILE = "network.safetensors"
_LONGEST_KIND = 40
"""Characters of what a file says that it is, in a complaint."""
"""The trained network in a training step's artifact."""


def network_kind(url: str) -> str:
    """Return what a network's file holds: "classifier", "probe" or "generator".

    Raises:
        UserError: it is damaged or no such file.
    """
    return read_network_file(url)[1]["kind"]


def network_folder(url: str) -> str:
    """Return the URL of the folder that a network's file lies in."""
    return url.rpartition("/")[0]


def open_network(
    url: str, kind: str, build: Callable[[dict[str, Any]], nn.Module], checksum: str | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the network that a file describes and give it the file's weights; return it and the description."""
    weights, description = read_network_file(url, checksum)
    if description["kind"] != kind:
        held = description["kind"][:_LONGEST_KIND]
        raise UserError(f"holds a {held}, not a {kind}", where=url, fix=f"give the file of a {kind}")
    try:
        check_repetitions(description.get("model") or description.get("config"), len(weights))
        with torch.device("meta"):  # a description of some bytes may ask for gigabytes; here it reserves none
            skeleton = build(description)
        if complaint := describe_mismatch(weights, skeleton.state_dict()):
            raise ValueError(complaint)
        network = build(description)
        network.load_state_dict(weights)
    except Exception as error:  # whatever a description that somebody else wrote makes the constructors raise
        raise UserError(f"does not fit its own description ({one_line(error)})", where=url) from error
    return network, description


def read_network_file(url: str, checksum: str | None = None) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the weights in a network's file and its description, which has a `kind`.

    Raises:
        UserError: it cannot be read, is no such file, or has another checksum than the one given.
    """
    content = stores.read_bytes(url)
    if checksum is not None and sha256(content) != checksum:
        raise UserError("its content is not the one that was exported (checksum)", where=url, fix="copy it again")
    try:
        weights, description = load_network(content)
        if not isinstance(description, dict) or not isinstance(description.get("kind"), str):
            raise ValueError("not a network file: it does not say what it is")
    except ValueError as error:
        raise UserError(str(error), where=url) from error
    return weights, description
