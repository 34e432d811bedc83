"""A trained network as one safetensors file that contains its description. No pickle is read or written."""

import json
from typing import Literal, Required, TypedDict

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from dpt_ray.core.collective import whole
from dpt_ray.json_values import JsonObject
from dpt_ray.text import one_line

MAX_HEADER_BYTES = 16 << 20
"""Of a safetensors file. Each tensor takes about 100 bytes of a header, and a checkpoint's holds its history, too. The
library reads up to 100 MB, which take 40 s if they are many small entries."""


class LatentDescription(TypedDict):
    """The latents that a generator was trained on.

    Attributes:
        location: location of the autoencoder in training.
        autoencoder: checksum of the autoencoder.
        precision: precision of the autoencoder.
        scale: factor of the latents.
        shift: shift of the latents.
    """

    location: str
    autoencoder: str
    precision: Literal["float32", "bfloat16"]
    scale: float
    shift: float


class LatentEntry(TypedDict):
    """The entry `latents` of a description."""

    latents: LatentDescription


class MixtureEntry(TypedDict):
    """The sizes of a probe's mixture: principal components, and components of the mixture."""

    dimensions: int
    components: int


class SamplingEntry(TypedDict, total=False):
    """Settings of the section `sampling`. These four are read by other code, too."""

    guidance_scale: float
    guidance_interval: list[float] | None
    sampler: str
    steps: int


class Description(TypedDict, total=False):
    """The description in a network's file. Which entries there are besides `kind` depends on the kind.

    Attributes:
        kind: "classifier", "encoder", "probe" or "generator".
        model: classifier, encoder: settings of the network.
        method: encoder: the method that it was trained by.
        temperature: classifier, probe: temperature of the probabilities.
        probe: probe: its settings.
        num_features: probe: number of features of the encoder.
        mixture: probe whose head is a mixture: its sizes.
        config: generator: its settings.
        image_size: encoder, generator: side of the images or latents.
        channels: classifier, encoder, generator: channels of the images or latents.
        num_classes: number of classes.
        cluster_images: generator on clusters of classes: images of each cluster, C lists of K.
        latents: generator of latents: the latents.
        sampling: imported generator: the published sampling settings.
    """

    kind: Required[str]
    model: JsonObject
    method: str
    temperature: float
    probe: JsonObject
    num_features: int
    mixture: MixtureEntry
    config: JsonObject
    image_size: int
    channels: int
    num_classes: int
    cluster_images: list[list[int]]
    latents: LatentDescription
    sampling: SamplingEntry


def save_network(network: nn.Module, description: Description) -> bytes:
    """Return a file with the network's weights and a description from which the network can be built.

    For a sharded network all workers must call this together.
    """
    tensors = {name: whole(value.detach()).cpu().contiguous().clone() for name, value in network.state_dict().items()}
    return save(tensors, {"description": json.dumps(description, sort_keys=True)})


def load_network(data: bytes) -> tuple[dict[str, Tensor], Description]:
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


def read_metadata(data: bytes) -> dict[str, str]:
    """Return the metadata of a safetensors file held in memory."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]).get("__metadata__", {})
