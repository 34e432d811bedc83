"""The network that stage 0 trains: an encoder, and a projector that training alone uses."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dpt_ray.core.models.base_networks import ClassifierNetwork
from dpt_ray.core.models.batch_norm import BatchNorm2d


class Projector(nn.Module):
    """A perceptron with two hidden layers, each with batch norm over all workers and ReLU."""

    def __init__(self, in_features: int, hidden: int, out_features: int):
        super().__init__()
        self.layers = nn.Sequential(
            _Hidden(in_features, hidden), _Hidden(hidden, hidden), nn.Linear(hidden, out_features, bias=False)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_features) -> (B, out_features)."""
        return self.layers(features)


class _Hidden(nn.Module):
    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        self.linear, self.norm = nn.Linear(in_features, out_features, bias=False), BatchNorm2d(out_features)

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.relu(self.norm(self.linear(features)[..., None, None]).flatten(1))


class JointEmbedding(nn.Module):
    """Maps views to projections.

    Args:
        encoder: its last layer is removed.
        feature_size: length of the encoder's features.
        hidden: width of the projector's hidden layers.
        projection: length D of a projection.
    """

    def __init__(self, encoder: ClassifierNetwork, feature_size: int, hidden: int, projection: int):
        super().__init__()
        encoder.head = nn.Identity()  # it would get no gradient, for which distributed training waits
        self.encoder = encoder
        self.projector = Projector(feature_size, hidden, projection)

    def forward(self, views: Sequence[Tensor], **options: Any) -> Tensor:
        """Return the projections (N, D) of the rows of all views, one after the other.

        Args:
            views: normalised float images (B, C, H, W), of one size in each entry.
            options: arguments of the encoder's `features` for the first entry.
        """
        first, *others = views
        features = [self.encoder.features(first, **options), *(self.encoder.features(view) for view in others)]
        return self.projector(torch.cat(features))
