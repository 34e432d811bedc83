"""A training method: a loss over the batches of one step."""

from collections.abc import Mapping

from torch import Tensor, nn

from dpt_ray.core.batch import ImageBatch


class Objective(nn.Module):
    """A training method's loss. Its buffers are the method's statistics.

    Checkpoints contain the buffers (thresholds, class histograms, ...). They must be equal on all workers, so they are
    updated with values of `core/collective.py` only, in `forward`, once a step. An objective has no parameters.
    """

    def forward(self, model: nn.Module, batches: Mapping[str, ImageBatch]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return this worker's mean loss (scalar, differentiable) and scalar metrics to log.

        A metric is a mean over this worker's rows, or equal on all workers. Workers may hold different numbers of rows;
        the caller weights the loss and the metrics by them.

        Args:
            model: the network, possibly wrapped by DistributedDataParallel, so it must be called once a step.
            batches: source name -> this worker's rows.
        """
        raise TypeError(f"{type(self).__name__} must define forward")
