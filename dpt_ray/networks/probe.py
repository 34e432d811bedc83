"""A probe on a frozen encoder, which is a head on its features: its file, and inference with it."""

from typing import cast

import torch
from torch import nn

from dpt_ray.config.probe_section import ProbeConfig
from dpt_ray.core.models.graphs import ProbeGraph
from dpt_ray.core.probe.heads import Head, LinearHead, MixtureHead
from dpt_ray.core.probe.normalisation import normalise_rows
from dpt_ray.core.weights import Description, save_network
from dpt_ray.networks.files import open_network
from dpt_ray.networks.probe_encoder import ProbeEncoder, open_probe_encoder


def probe_file(probe: ProbeConfig, num_classes: int, temperature: float, weight: torch.Tensor) -> bytes:
    """Return the content of the file of a fitted linear head: weight and description.

    Args:
        probe: settings of the encoder and the fit.
        num_classes: C.
        temperature: divides the logits.
        weight: (C, D), D the number of features.
    """
    head = LinearHead(weight.shape[1], num_classes)
    head.load_state_dict({"weight": weight.float()})
    return head_file(probe, temperature, head)


def head_file(probe: ProbeConfig, temperature: float, head: Head) -> bytes:
    """Return the content of the file of a fitted head; see `probe_file`."""
    description: Description = {
        "kind": "probe",
        "probe": probe.model_dump(mode="json"),
        "num_features": head.in_features,
        "num_classes": head.out_features,
        "temperature": temperature,
    }
    if isinstance(head, MixtureHead):
        description["mixture"] = {"dimensions": head.dimensions, "components": head.components}
    return save_network(head, description)


def _build_head(description: Description) -> Head:
    shape = description["num_features"], description["num_classes"]
    return MixtureHead(*shape, **description["mixture"]) if "mixture" in description else LinearHead(*shape)


class Probe:
    """A fitted linear probe.

    Args:
        url: path or URL of its file.
        device: device of probe and encoder.
        encoder: location of the encoder; the one in training if None.
        checksum: SHA-256 of the file's content, hexadecimal; not checked if None.

    Raises:
        UserError: the file is damaged, or holds no linear probe.
    """

    def __init__(self, url: str, device: str = "cpu", encoder: str | None = None, checksum: str | None = None):
        def build(description: Description) -> nn.Module:
            self.config = ProbeConfig.model_validate(description["probe"])
            self.temperature = float(description["temperature"])
            return _build_head(description)

        head, self.description = open_network(url, "probe", build, checksum)
        self.head = cast(Head, head.to(device))
        self._device = device
        self._location = encoder or self.config.encoder
        self._encoder: ProbeEncoder | None = None

    @property
    def encoder(self) -> ProbeEncoder:
        """The encoder, loaded on first access.

        Raises:
            UserError: its location holds no usable encoder.
        """
        if self._encoder is None:
            self._encoder = open_probe_encoder(self._location, self.config, self._device)
        return self._encoder

    def graph(self) -> nn.Module:
        """Return a module that maps uint8 images, as the encoder takes them, to probabilities (B, num_classes)."""
        return ProbeGraph(self.encoder, self.head, self.temperature)

    @torch.inference_mode()
    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Return class probabilities (B, num_classes), on the CPU, of the encoder's features (B, D)."""
        logits = self.head(normalise_rows(features.to(self._device)))
        return (logits / self.temperature).softmax(dim=1).cpu()

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return probabilities (B, num_classes) and features (B, D).

        Args:
            images: uint8 RGB (B, 3, resize, resize); for an encoder of stage 0 (B, C, H, W) as it was trained on.
        """
        features = self.encoder(images).cpu()
        return self.classify(features), features
