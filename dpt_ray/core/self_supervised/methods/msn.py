"""MSN: an image with masked patches is assigned to the same prototypes as the whole image.

Assran et al., "Masked Siamese Networks for Label-Efficient Learning" (ECCV 2022, arXiv 2204.07141), from the paper's
formulas. Shapes: B images of this worker, M anchor views, K prototypes, D outputs of the projector.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpt_ray.config.encoder_section import EncoderConfig, MsnConfig
from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.collective import gather_from_workers, mean_of_workers, own_rows, stack_differentiably
from dpt_ray.core.models.base_networks import ClassifierNetwork
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.self_supervised.method import Method, spread
from dpt_ray.core.self_supervised.network import JointEmbedding
from dpt_ray.core.self_supervised.views import RandomViews


def msn_loss(scores: Tensor, targets: Tensor, config: MsnConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss 1/(MB) sum H(p+, p) - lambda H(mean of p) (equation 1 of the paper), and its two terms.

    The mean is over the anchors of all workers.

    Args:
        scores: cosines (M, B, K) of anchors with prototypes.
        targets: distributions p+ (B, K) over prototypes, without gradient.
        config: the method's settings.
    """
    log_predicted = (scores / config.temperature).log_softmax(dim=2)
    cross_entropy = -(targets * log_predicted).sum(dim=2).mean()
    mean = mean_of_workers(stack_differentiably(log_predicted.exp().mean(dim=(0, 1))))
    entropy = -(mean * mean.clamp_min(torch.finfo(mean.dtype).tiny).log()).sum()
    return cross_entropy - config.entropy_weight * entropy, {"cross_entropy": cross_entropy, "mean_entropy": entropy}


@torch.no_grad()
def target_distributions(scores: Tensor, config: MsnConfig) -> Tensor:
    """Return the sharpened distributions p+ (B, K) of target views with cosines `scores` (B, K)."""
    targets = (scores / config.target_temperature).softmax(dim=1)
    if not config.sinkhorn:
        return targets
    return own_rows(balance(gather_from_workers(targets), config.sinkhorn), len(targets))


def balance(targets: Tensor, iterations: int) -> Tensor:
    """Give all prototypes an equal share of the targets (N, K), by Sinkhorn's iterations (Caron et al. 2020, SwAV)."""
    tiny = torch.finfo(targets.dtype).tiny
    for _ in range(iterations):
        targets = targets / targets.sum(dim=0, keepdim=True).clamp_min(tiny)
        targets = targets / targets.sum(dim=1, keepdim=True).clamp_min(tiny)
    return targets


def kept_patches(random: RowRandom, patches: int, masked: float) -> Tensor:
    """Draw the patches that remain of each image, int64 (B, M): a uniform subset of fixed size, at least one."""
    count = max(1, patches - math.floor(masked * patches))
    return random.uniform(patches).argsort(dim=1)[:, :count].sort(dim=1).values


class PrototypeNetwork(JointEmbedding):
    """A joint embedding whose output is the cosines (N, K) of projections with learnt prototypes."""

    def __init__(self, encoder: ClassifierNetwork, feature_size: int, hidden: int, projection: int, prototypes: int):
        super().__init__(encoder, feature_size, hidden, projection)
        self.prototypes = nn.Parameter(torch.empty(prototypes, projection))
        nn.init.normal_(self.prototypes, std=projection**-0.5)

    def forward(self, views: Sequence[Tensor], **options: Any) -> Tensor:
        return self.scores(super().forward(views, **options))

    def scores(self, projections: Tensor) -> Tensor:
        """Return the cosines of projections (N, D)."""
        return functional.normalize(projections, dim=1) @ functional.normalize(self.prototypes, dim=1).T


class Msn(Method):
    """Anchors are a view with masked patches and small views; the target is another view under the averaged network.

    The prototypes of targets are those of the anchors, without gradient. The averaged network normalises by averaged
    statistics (Cai et al. 2021, EMAN), where the released code uses those of the batch.
    """

    extendable = False  # the average's decay follows the length

    def __init__(self, config: EncoderConfig, channels: int):
        super().__init__(config, channels)
        self._views, self._focal = RandomViews(config.views), RandomViews(config.views, config.msn.focal_scale)
        self._networks: tuple[PrototypeNetwork, JointEmbedding] | None = None

    def build_network(self, encoder: ClassifierNetwork, feature_size: int) -> JointEmbedding:
        config = self.config
        return PrototypeNetwork(encoder, feature_size, config.hidden, config.projection, config.msn.prototypes)

    def follow(self, network: JointEmbedding, average: JointEmbedding) -> None:
        assert isinstance(network, PrototypeNetwork)
        self._networks = network, average  # in a tuple, so that they are no part of this module

    def loss(self, model: nn.Module, batch: ImageBatch) -> tuple[Tensor, dict[str, Tensor]]:
        config, patch = self.config.msn, self.config.model.patch_size
        rows, size = len(batch.images), batch.images.shape[2]
        anchor, target = self._views(batch.images, batch.random, count=2)
        anchors = [self.normalised(anchor[None])]
        if config.focal_views:
            side = max(patch, size // 2 // patch * patch)
            anchors.append(self.normalised(self._focal(batch.images, batch.random, config.focal_views, side)))
        kept = kept_patches(batch.random, (size // patch) ** 2, config.masked)
        scores = model(anchors, kept=kept).unflatten(0, (-1, rows))
        projections, target_scores = self._target(self.normalised(target[None]))
        loss, metrics = msn_loss(scores, target_distributions(target_scores, config), config)
        return loss, {**metrics, "spread": spread(gather_from_workers(projections))}

    @torch.no_grad()
    def _target(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return projections and scores of target views, in the precision of the training."""
        assert self._networks is not None
        network, average = self._networks
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            projections = average.projector(average.encoder.features(images)).float()
        return projections, network.scores(projections)


METHOD = Msn
