"""Batch normalisation over the rows of all training workers."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from dpt_ray.core.training.collective import num_workers


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose statistics in training are those of the global batch.

    So the number of workers changes a classifier by rounding only. torch's own SyncBatchNorm runs on
    GPUs alone. Workers must hold equally many rows; without other workers this is `nn.BatchNorm2d`.
    """

    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalise (B, C, H, W) by the mean and variance of each channel."""
        workers = num_workers()
        if not self.training or workers == 1:
            return super().forward(x_BCHW)
        x = x_BCHW.float()
        moments = torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))]) / workers
        mean, square = all_reduce(moments, op=dist.ReduceOp.SUM)
        variance = square - mean.square()
        self._update_running(mean.detach(), variance.detach(), x.numel() // x.shape[1] * workers)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (x * scale[:, None, None] + shift[:, None, None]).to(x_BCHW.dtype)

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor, count: int) -> None:
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)
