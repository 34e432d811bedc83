"""A trained network as one safetensors file that contains its description. No pickle is read or written."""

import json
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from dpt_ray.core.collective import whole
from dpt_ray.text import one_line

MAX_HEADER_BYTES = 16 << 20
"""Of a safetensors file. Each tensor takes about 100 bytes of a header, and a checkpoint's holds its history, too. The
library reads up to 100 MB, which take 40 s if they are many small entries."""


def save_network(network: nn.Module, description: dict[str, Any]) -> bytes:
    """Return a file with the network's weights and a description from which the network can be built.

    For a sharded network all workers must call this together.
    """
    tensors = {name: whole(value.detach()).cpu().contiguous().clone() for name, value in network.state_dict().items()}
    return save(tensors, {"description": json.dumps(description, sort_keys=True)})


def load_network(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the weights and the description in a file made by `save_network`.

    Raises:
        ValueError: the file is damaged, or was not made by `save_network`.
    """
    try:
        check_header(data)
        return load(data), json.loads(read_metadata(data)["description"])
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"not a network file: {one_line(error)}") from error


def check_header(data: bytes) -> None:
    """Refuse a safetensors file whose header takes long to read.

    Args:
        data: the file, or its first eight bytes.

    Raises:
        ValueError: the header has more than `MAX_HEADER_BYTES`.
    """
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its header has {length:,} bytes, at most {MAX_HEADER_BYTES:,}")


def read_metadata(data: bytes) -> dict[str, Any]:
    """Return the metadata of a safetensors file held in memory."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]).get("__metadata__", {})
