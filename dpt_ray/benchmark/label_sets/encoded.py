"""CIFAR-10's images in the features of EfficientNet-Lite0, on one device."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dpt_ray.benchmark.time_to_quality.cifar import Cifar
from dpt_ray.core.metrics.frechet import GaussianMoments
from dpt_ray.core.models.efficientnet_lite import LITE
from dpt_ray.core.probe.normalisation import normalise_rows
from dpt_ray.networks.pretrained.encoders import open_encoder

_TOGETHER = 250
"""Images that are enlarged and encoded together."""


class Features:
    """Computes normalised features.

    Args:
        side: height and width in pixels to which images are enlarged.
        device: "cuda" or "cpu".

    Raises:
        UserError: the weights of the encoder are not installed.
    """

    def __init__(self, side: int, device: str):
        self._side, self._device = side, device
        self._encoder = open_encoder(LITE, crop=side, blocks=1, device=device)

    @torch.no_grad()
    def of(self, images: Tensor) -> Tensor:
        """Return the features of uint8 images (N, 3, H, W), float32 (N, D) on the CPU."""
        parts = []
        for batch in images.split(_TOGETHER):
            shape = (self._side, self._side)
            large = torch.nn.functional.interpolate(batch.to(self._device).float(), shape, mode="bicubic")
            parts.append(self._encoder(large.round().clamp(0, 255).byte()).float().cpu())
        return normalise_rows(torch.cat(parts))


@dataclass(frozen=True)
class Encoded:
    """All images.

    Attributes:
        features: computes features.
        train: of the training images, float32 (N, D).
        test: of the test images.
        moments: mean and covariance of `train`.
    """

    features: Features
    train: Tensor
    test: Tensor
    moments: GaussianMoments

    @classmethod
    def of(cls, data: Cifar, side: int, device: str) -> "Encoded":
        """Encode the training and the test images."""
        features = Features(side, device)
        train = features.of(torch.from_numpy(data.images))
        return cls(features, train, features.of(data.test_images), moments_of(train))


def moments_of(features: Tensor) -> GaussianMoments:
    """Return the mean and covariance of features, (N, D)."""
    moments = GaussianMoments(features.shape[1])
    moments.update(features)
    return moments
