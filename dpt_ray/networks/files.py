"""Files of trained networks: safetensors with a description of the network in the metadata."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from dpt_ray.core.models.pretrained import check_repetitions
from dpt_ray.core.state_mismatch import describe_mismatch
from dpt_ray.core.transfer import own_device
from dpt_ray.core.weights import Description, load_network
from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.text import one_line

Opened = TypeVar("Opened")

NETWORK_FILE = "network.safetensors"
"""Name of the trained network's file in the artifact of a training step."""
_LONGEST_KIND = 40
"""Characters of a file's kind that messages show."""


def network_kind(url: str) -> str:
    """Return the kind of network in a file: "classifier", "encoder", "probe" or "generator".

    Raises:
        UserError: the file is damaged, or is no network's file.
    """
    return read_network_file(url)[1]["kind"]


def network_folder(url: str) -> str:
    """Return the URL of the folder of a network's file."""
    return url.rpartition("/")[0]


def open_network(
    url: str, kind: str, build: Callable[[Description], nn.Module], checksum: str | None = None
) -> tuple[nn.Module, Description]:
    """Build the network that a file describes, with the file's weights.

    Args:
        url: path or URL of the file.
        kind: kind that the file must have.
        build: builds the network from the description; called on the meta device first.
        checksum: SHA-256 of the file's content, hexadecimal; not checked if None.

    Returns:
        The network on the CPU, and the description.

    Raises:
        UserError: the file cannot be read, has another kind or checksum, or its weights do not match its description.
    """
    weights, description = read_network_file(url, checksum)
    if description["kind"] != kind:
        held = description["kind"][:_LONGEST_KIND]
        raise UserError(f"holds a {held}, not a {kind}", where=url, fix=f"give the file of a {kind}")
    try:
        check_repetitions(description.get("model") or description.get("config"), len(weights))
        # A few bytes may describe gigabytes. The meta device allocates no memory, so shapes are compared there first.
        with torch.device("meta"):
            skeleton = build(description)
        if complaint := describe_mismatch(weights, skeleton.state_dict()):
            raise ValueError(complaint)
        network = build(description)
        network.load_state_dict(weights)
    except Exception as error:  # constructors raise many types for a foreign description
        raise UserError(f"does not fit its own description ({one_line(error)})", where=url) from error
    return network, description


def read_network_file(url: str, checksum: str | None = None) -> tuple[dict[str, torch.Tensor], Description]:
    """Return the weights and the description of a network's file. The description has a `kind`.

    Raises:
        UserError: the file cannot be read, is no network's file, or has another checksum.
    """
    content = stores.read_bytes(url)
    if checksum is not None and sha256(content) != checksum:
        raise UserError("its checksum is not that of the exported file", where=url, fix="copy it again")
    try:
        weights, description = load_network(content)
        if not isinstance(description, dict) or not isinstance(description.get("kind"), str):
            raise ValueError("not a network file: its metadata name no kind of network")
    except ValueError as error:
        raise UserError(str(error), where=url) from error
    return weights, description


def open_content(kind: Callable[[str, str], Opened], content: bytes) -> Opened:
    """Open a network's file that is in memory, on the device that this process computes on.

    Args:
        kind: `Classifier` or `Generator`.
        content: content of the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / NETWORK_FILE
        file.write_bytes(content)
        return kind(str(file), own_device())
