"""VICReg: two views agree, each feature varies, and features are decorrelated (Bardes, Ponce and LeCun, ICLR 2022).

Shapes: N images of all workers, D outputs of the projector.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpt_ray.config.encoder_section import EncoderConfig
from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.self_supervised.method import Method, gathered_views, spread
from dpt_ray.core.self_supervised.views import RandomViews

GAMMA, EPSILON = 1.0, 1e-4
"""Wanted standard deviation, and what is added to variances (the paper's section 4.2)."""


def invariance(first: Tensor, second: Tensor) -> Tensor:
    """Return s(Z, Z'): the mean over images of the squared distance (equation 5)."""
    return (first - second).square().sum(dim=1).mean()


def variance(rows: Tensor) -> Tensor:
    """Return v(Z): the mean over features of max(0, gamma - sqrt(Var + epsilon)) (equations 1 and 2)."""
    return functional.relu(GAMMA - (rows.var(dim=0) + EPSILON).sqrt()).mean()


def covariance(rows: Tensor) -> Tensor:
    """Return c(Z): the sum of the squared covariances of different features, divided by D (equations 3 and 4)."""
    centred = rows - rows.mean(dim=0)
    matrix = centred.T @ centred / (len(rows) - 1)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / rows.shape[1]


class VicReg(Method):
    """The loss lambda s(Z, Z') + mu (v(Z) + v(Z')) + nu (c(Z) + c(Z')) (equation 6).

    As in the authors' released runs, s is divided by D, and v by 2, which their weights 25, 25 and 1 belong to.
    """

    def __init__(self, config: EncoderConfig, channels: int):
        super().__init__(config, channels)
        self._views = RandomViews(config.views)

    def loss(self, model: nn.Module, batch: ImageBatch) -> tuple[Tensor, dict[str, Tensor]]:
        views = self._views(batch.images, batch.random, count=2)
        first, second = gathered_views(model([self.normalised(views)]), 2)
        terms = {
            "invariance": invariance(first, second) / first.shape[1],
            "variance": (variance(first) + variance(second)) / 2,
            "covariance": covariance(first) + covariance(second),
        }
        weights = self.config.vicreg
        loss = torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()
        return loss, {**terms, "spread": spread(first)}


METHOD = VicReg
