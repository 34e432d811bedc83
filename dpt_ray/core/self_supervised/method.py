"""What the methods of stage 0 have in common."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from dpt_ray.config.encoder_section import EncoderConfig
from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.collective import gather_differentiably
from dpt_ray.core.models.base_networks import ClassifierNetwork
from dpt_ray.core.models.network_settings import channel_statistics
from dpt_ray.core.objective import Objective
from dpt_ray.core.pixels import normalise
from dpt_ray.core.self_supervised.network import JointEmbedding


class Method(Objective):
    """A loss on views of unlabelled images. Labels are never read.

    A subclass defines `loss`, and `build_network` if it trains more than an encoder and a projector.

    Args:
        config: the section `stage0`.
        channels: number of channels of the images.
    """

    extendable: ClassVar[bool] = True
    """Whether a longer training passes through the states of a shorter one."""

    def __init__(self, config: EncoderConfig, channels: int):
        super().__init__()
        self.config = config
        self._statistics = channel_statistics(config.model, channels)

    def build_network(self, encoder: ClassifierNetwork, feature_size: int) -> JointEmbedding:
        """Return the network to train."""
        return JointEmbedding(encoder, feature_size, self.config.hidden, self.config.projection)

    def follow(self, network: JointEmbedding, average: JointEmbedding) -> None:
        """Receive the network in training and the average of its weights, not wrapped."""

    def forward(self, model: nn.Module, batches: Mapping[str, ImageBatch]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of the source "images" and metrics, `loss` among them."""
        loss, metrics = self.loss(model, batches["images"])
        return loss, {name: value.detach() for name, value in {"loss": loss, **metrics}.items()}

    def loss(self, model: nn.Module, batch: ImageBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of this worker's rows (scalar, differentiable) and further scalar metrics."""
        raise TypeError(f"{type(self).__name__} must define loss")

    def normalised(self, views: Tensor) -> Tensor:
        """Normalise views (V, B, C, H, W) with values in 0..255 and join them to rows (V * B, C, H, W)."""
        return normalise(views.flatten(0, 1), *self._statistics)


def gathered_views(rows: Tensor, count: int) -> Tensor:
    """Return the rows (V * B, D) of V = `count` views as (V, N, D): those of all workers, with gradients."""
    return gather_differentiably(rows.unflatten(0, (count, -1)).transpose(0, 1)).transpose(0, 1)


@torch.no_grad()
def spread(rows: Tensor) -> Tensor:
    """Return the mean standard deviation of the coordinates of normalised rows (N, D), times sqrt(D).

    It is near 1 for directions spread over the sphere, and 0 for collapsed ones (Chen and He 2021, section 4.1).
    """
    return nn.functional.normalize(rows, dim=1).std(dim=0, correction=0).mean() * rows.shape[1] ** 0.5
