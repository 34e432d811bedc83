"""What a training method is: a loss over the batches of one step."""

from collections.abc import Mapping

from torch import Tensor, nn

from dpt_ray.core.batch import ImageBatch


class Objective(nn.Module):
    """A training method's loss. Its buffers are the method's own statistics.

    Buffers (thresholds, class histograms, ...) are saved in checkpoints and must be equal on all
    workers, so they are updated only through `core.training.collective`. An objective has no
    parameters. It changes its buffers in `forward`, once a step.
    """

    def forward(self, model: nn.Module, batches: Mapping[str, ImageBatch]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return this worker's mean loss (scalar, differentiable) and scalar metrics to log.

        Args:
            model: the network, possibly wrapped by DistributedDataParallel: call it once a step.
            batches: source name -> this worker's rows.
        """
        raise TypeError(f"{type(self).__name__} must define forward")
