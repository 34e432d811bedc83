"""The network in whose features pseudo images are measured: Inception-v3 or a frozen encoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dpt_ray.config.evaluation_section import EvaluationConfig
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.networks.inception_weights import FoundInception, find_inception, open_inception
from dpt_ray.networks.pretrained.encoders import encoder_identity, open_encoder
from dpt_ray.networks.pretrained.model_files import is_folder, located

Space = Literal["fid", "inception", "dinov2_large", "other"]
"""What a Fréchet distance is called in: FID with the published weights alone, FD-DINOv2 with the model of its paper."""

DINOV2_LARGE = "facebook/dinov2-large"
"""ViT-L/14, the network of FD-DINOv2 (Stein et al., "Exposing Flaws of Generative Model Evaluation Metrics and Their
Unfair Treatment of Diffusion Models", NeurIPS 2023)."""


class MetricFeatures(NamedTuple):
    """The features of B images, float32: `features` (B, D), and what Inception-v3 alone has (`InceptionFeatures`)."""

    features: Tensor
    spatial: Tensor | None = None
    logits: Tensor | None = None


def joined_features(parts: Sequence[MetricFeatures]) -> MetricFeatures:
    """Return the features of several batches, at least one, as those of one batch."""

    def join(column: Sequence[Tensor | None]) -> Tensor | None:
        held = [part for part in column if part is not None]
        return torch.cat(held) if held else None

    features, spatial, logits = zip(*parts, strict=True)
    return MetricFeatures(torch.cat(features), join(spatial), join(logits))


@dataclass(frozen=True)
class MetricNetwork:
    """A network that was found.

    Attributes:
        name: name beside figures.
        space: what distances in its features are called.
        identity: what identifies its content and the size of its images.
        inception: the weights of Inception-v3; None for an encoder.
        encoder: folder or name of an encoder.
        size: side of the images that an encoder reads, in pixels.
    """

    name: str
    space: Space
    identity: JsonObject
    inception: FoundInception | None = None
    encoder: str = ""
    size: int = 0


def find_network(config: EvaluationConfig) -> MetricNetwork | None:
    """Return the network that the settings name; None for the stage-1 classifier.

    Raises:
        UserError: the weights are absent or those of another network.
    """
    if config.network == "stage1":
        return None
    if config.network == "inception":
        assert config.inception is not None  # the settings are checked
        found = find_inception(located(config.inception))
        space: Space = "fid" if found.is_published else "inception"
        return MetricNetwork(found.name, space, {"inception": found.checksum}, inception=found)
    place, size = located(config.network), config.encoder_size
    identity: JsonObject = {"encoder": encoder_identity(place), "size": size}
    name = place.rstrip("/").rpartition("/")[2] if is_folder(place) else place
    space = "dinov2_large" if place.partition("@")[0] == DINOV2_LARGE and size == 224 else "other"
    return MetricNetwork(name, space, identity, encoder=place, size=size)


def open_network(network: MetricNetwork, device: str) -> Callable[[Tensor], MetricFeatures]:
    """Return a function from uint8 images (B, 1 or 3, H, W) to their features.

    Raises:
        UserError: the network cannot be loaded.
    """
    if network.inception is not None:
        inception = open_inception(network.inception, device)
        return lambda images: MetricFeatures(*inception(images.to(device)))
    encoder = open_encoder(network.encoder, crop=network.size, blocks=1, device=device)

    @torch.inference_mode()
    def encode(images: Tensor) -> MetricFeatures:
        if images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        sides = (network.size, network.size)
        if images.shape[2:] != sides:
            images = interpolate(images.float(), sides, mode="bicubic", antialias=True).round().clamp(0, 255).byte()
        return MetricFeatures(encoder(images.to(device)))

    return encode


def check_features(features: Tensor, name: str) -> None:
    """Refuse features that are not finite.

    Raises:
        UserError: one is not.
    """
    if not features.isfinite().all():
        raise UserError("gives features that are not finite, which no distance is defined for", where=name)
