"""EMP-SSL: many views of an image agree, and the views of different images fill the space.

Tong, Chen, Ma and LeCun, "EMP-SSL: Towards Self-Supervised Learning in One Training Epoch" (2023, arXiv 2304.03977).
Shapes: n views, b images of all workers, d outputs of the projector.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpt_ray.config.encoder_section import EncoderConfig
from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.self_supervised.method import Method, gathered_views, spread
from dpt_ray.core.self_supervised.views import RandomViews


def coding_rate(rows: Tensor, distortion: float) -> Tensor:
    """Return the total coding rate R(Z) = 1/2 log det(I + d / (b epsilon^2) Z Z^T) of rows on the sphere (equation 1).

    Both Gram matrices give the same determinant; the smaller one is decomposed.

    Args:
        rows: (..., b, d), rows of norm 1.
        distortion: epsilon^2.

    Returns:
        (...,), at least 1/2 log(1 + d / epsilon^2), which equal rows have.
    """
    count, size = rows.shape[-2:]
    gram = rows @ rows.mT if count < size else rows.mT @ rows
    gram = gram * (size / (count * distortion)) + torch.eye(min(count, size), device=rows.device, dtype=rows.dtype)
    return torch.linalg.cholesky(gram).diagonal(dim1=-2, dim2=-1).log().sum(-1)


def similarity(views: Tensor) -> Tensor:
    """Return the mean cosine of the views (n, b, d) of an image with their mean (the paper's D, in section 3)."""
    return functional.cosine_similarity(views, views.mean(dim=0, keepdim=True), dim=2).mean()


class EmpSsl(Method):
    """The loss -(1/n) sum_i [R(Z_i) + lambda D(Z_i, mean of Z)] (equation 2).

    The paper's patches are crops of a quarter of the image, and its features the mean over patches. Here crops are
    those of `stage0.views.scale`, and features those of the whole image, so crops should come in all sizes.
    """

    def __init__(self, config: EncoderConfig, channels: int):
        super().__init__(config, channels)
        self._views = RandomViews(config.views)

    def loss(self, model: nn.Module, batch: ImageBatch) -> tuple[Tensor, dict[str, Tensor]]:
        config = self.config.emp_ssl
        views = self._views(batch.images, batch.random, count=config.patches)
        rows = gathered_views(model([self.normalised(views)]), config.patches)
        rows = functional.normalize(rows, dim=2)
        rate, alike = coding_rate(rows, config.distortion).mean(), similarity(rows)
        metrics = {"coding_rate": rate, "similarity": alike, "spread": spread(rows[0])}
        return -(rate + config.invariance * alike), metrics


METHOD = EmpSsl
