"""The encoder of stage 0: its file, and inference with it."""

from typing import cast

import torch
from torch import Tensor, nn

from dpt_ray.config.encoder_section import EncoderConfig
from dpt_ray.core.models.base_networks import ClassifierNetwork
from dpt_ray.core.models.network_settings import build_classifier, channel_statistics, stored_settings
from dpt_ray.core.pixels import normalise
from dpt_ray.core.self_supervised.network import JointEmbedding
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.weights import Description, save_network
from dpt_ray.networks.classifier import described_model
from dpt_ray.networks.files import open_network

KIND = "encoder"
"""Kind of network in the file's description."""


def encoder_file(config: EncoderConfig, image_size: int, channels: int, state: TrainState) -> bytes:
    """Return the content of a trained encoder's file: averaged weights and description, without the projector.

    Args:
        config: the section `stage0`.
        image_size: height and width of the images in pixels.
        channels: channels of the images.
        state: the training state.
    """
    network = cast(JointEmbedding, state.ema.model)
    description: Description = {
        "kind": KIND,
        "model": stored_settings(config.model),
        "image_size": image_size,
        "channels": channels,
        "method": config.method,
    }
    return save_network(network.encoder, description)


class OwnEncoder(nn.Module):
    """The encoder of a stage 0.

    Args:
        url: path or URL of its file.
        checksum: SHA-256 of the file's content, hexadecimal; not checked if None.

    Attributes:
        url: the file.
        image_size: height and width in pixels of the images that it was trained on.
        channels: their number of channels.
        feature_size: number of features.

    Raises:
        UserError: the file is damaged, or holds no encoder.
    """

    def __init__(self, url: str, checksum: str | None = None):
        super().__init__()
        self.url = url
        network, self.description = open_network(url, KIND, _build, checksum)
        self.network = cast(ClassifierNetwork, network.eval().requires_grad_(False))
        self.image_size, self.channels = self.description["image_size"], self.description["channels"]
        self._statistics = channel_statistics(described_model(self.description), self.channels)
        empty = torch.zeros(1, self.channels, self.image_size, self.image_size, dtype=torch.uint8)
        self.feature_size = self(empty).shape[1]

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, D) float32 of uint8 images (B, C, H, W)."""
        device = next(self.network.parameters()).device
        return self.network.features(normalise(images.to(device), *self._statistics)).float()


def _build(description: Description) -> nn.Module:
    network = build_classifier(described_model(description), channels=description["channels"], num_classes=1)
    network.head = nn.Identity()
    return network
