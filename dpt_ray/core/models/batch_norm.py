"""Batch normalisation over the rows of all training workers."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpt_ray.core.collective import (
    mean_of_workers,
    num_workers,
    rows_of_workers,
    stack_differentiably,
    variance_of_workers,
)


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose training statistics are those of the global batch.

    So the number of workers changes a classifier by rounding only. torch's SyncBatchNorm supports GPUs only. With a
    single worker this is `nn.BatchNorm2d`.

    Attributes:
        auxiliary_rows: number of last rows of a training batch that are normalised by auxiliary statistics: their own
            mean and variance, which do not enter the running statistics; see `set_auxiliary_rows`.
    """

    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    auxiliary_rows: int = 0

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalise (B, C, H, W) by the mean and variance of each channel."""
        if not self.training:
            return super().forward(x_BCHW)
        if not self.auxiliary_rows:
            return self._normalise(x_BCHW, track=True)
        main, auxiliary = x_BCHW.tensor_split([len(x_BCHW) - self.auxiliary_rows])
        return torch.cat([self._normalise(main, track=True), self._normalise(auxiliary, track=False)])

    def _normalise(self, x_BCHW: Tensor, *, track: bool) -> Tensor:
        if num_workers() == 1:
            if track:
                return super().forward(x_BCHW)
            return functional.batch_norm(x_BCHW, None, None, self.weight, self.bias, training=True, eps=self.eps)
        x = x_BCHW.float()
        # The variances within workers and between them: E[x^2] - E[x]^2 would cancel where rows are nearly equal.
        variances, means = torch.var_mean(x, (0, 2, 3), correction=0)
        means, variances = stack_differentiably(torch.stack([means, variances])).unbind(1)
        mean, variance = mean_of_workers(means), mean_of_workers(variances) + variance_of_workers(means)
        if track:
            self._update_running(mean.detach(), variance.detach(), sum(rows_of_workers(x.numel() // x.shape[1])))
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = self.weight * scale
        shift = (self.bias if self.affine else 0) - mean * scale
        return (x * scale[:, None, None] + shift[:, None, None]).to(x_BCHW.dtype)

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor, count: int) -> None:
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)


def set_auxiliary_rows(model: nn.Module, rows: int) -> None:
    """Let every `BatchNorm2d` of `model` use auxiliary statistics for the last `rows` rows of training batches.

    Reference: Xie et al. 2020, AdvProp.
    """
    for module in model.modules():
        if isinstance(module, BatchNorm2d):
            module.auxiliary_rows = rows
