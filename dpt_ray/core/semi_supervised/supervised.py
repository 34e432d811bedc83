"""Training on the labelled images alone: the baseline that semi-supervised training must beat."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional

from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.semi_supervised.augmentation import Weak, normalise
from dpt_ray.core.training.objective import Objective


class Supervised(Objective):
    """Cross entropy on the weak view of the labelled images.

    Args:
        mean: channel means of images in [0, 1].
        std: channel standard deviations of images in [0, 1].
        weak: the weak augmentation.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], weak: Weak):
        super().__init__()
        self.mean, self.std, self.weak = tuple(mean), tuple(std), weak

    def forward(self, model: nn.Module, batches: Mapping[str, ImageBatch]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of `batches["labelled"]`, and metrics loss and labelled_loss."""
        labelled = batches["labelled"]
        view = normalise(self.weak(labelled.images, labelled.random), self.mean, self.std)
        loss = functional.cross_entropy(model(view).float(), labelled.labels)
        return loss, {"loss": loss.detach(), "labelled_loss": loss.detach()}
