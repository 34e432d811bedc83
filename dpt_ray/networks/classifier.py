"""A trained classifier: its file, and inference with it."""

from typing import cast

import torch
from torch import nn

from dpt_ray.config.classifier_section import ClassifierModelConfig
from dpt_ray.core.models.base_networks import ClassifierNetwork
from dpt_ray.core.models.graphs import ClassifierGraph
from dpt_ray.core.models.network_settings import build_classifier, channel_statistics, stored_settings
from dpt_ray.core.pixels import normalise
from dpt_ray.core.training.compute import FLOAT32, Precision
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.weights import Description, save_network
from dpt_ray.networks.files import open_network

_FIRST_FORM = {"form": "preactivation"}
"""Default of `form` for files of wide residual networks that are older than this setting."""


def described_model(description: Description) -> ClassifierModelConfig:
    """Return the settings of the network that a classifier's file describes."""
    return ClassifierModelConfig.model_validate({**_FIRST_FORM, **description["model"]})


def classifier_file(config: ClassifierModelConfig, channels: int, num_classes: int, state: TrainState) -> bytes:
    """Return the content of a trained classifier's file: averaged weights and description.

    Args:
        config: settings of the network.
        channels: colour channels of the images.
        num_classes: number of classes.
        state: the training state.
    """
    description: Description = {
        "kind": "classifier",
        "model": stored_settings(config),
        "channels": channels,
        "num_classes": num_classes,
    }
    return save_network(state.ema.model, description)


class Classifier:
    """A trained classifier.

    Args:
        url: path or URL of its file.
        device: device of the network.
        precision: number format in which features are computed; the last layer and probabilities are float32.
        checksum: SHA-256 of the file's content, hexadecimal; not checked if None.

    Raises:
        UserError: the file is damaged, or holds no classifier.
    """

    def __init__(self, url: str, device: str = "cpu", checksum: str | None = None, precision: Precision = FLOAT32):
        def build(description: Description) -> nn.Module:
            config = described_model(description)
            channels = description["channels"]
            self._statistics = channel_statistics(config, channels)
            self._temperature = float(description.get("temperature", 1.0))
            if not self._temperature > 0:
                raise ValueError(f"temperature {self._temperature:g} is not above 0")
            return build_classifier(config, channels=channels, num_classes=description["num_classes"])

        network, self.description = open_network(url, "classifier", build, checksum)
        self.network = cast(ClassifierNetwork, network.eval().to(device))
        self._device, self._precision = torch.device(device), precision
        if self._device.type == "cuda":
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs

    def graph(self) -> nn.Module:
        """Return a module that maps uint8 images (B, C, H, W) to class probabilities (B, num_classes)."""
        return ClassifierGraph(self.network, *self._statistics, self._temperature)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (B, num_classes) of float32 images (B, C, H, W) in [-1, 1], with a gradient."""
        mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in self._statistics)
        logits: torch.Tensor = self.network(((images + 1) / 2 - mean) / std)
        return logits / self._temperature

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class probabilities (B, num_classes) and features (B, D) of uint8 images (B, C, H, W), on the CPU."""
        normalised = normalise(images.to(self._device), *self._statistics)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._precision != FLOAT32):
            features = self.network.features(normalised)
        features = features.float()
        logits = self.network.head(features)
        return (logits / self._temperature).softmax(dim=1).cpu(), features.cpu()
