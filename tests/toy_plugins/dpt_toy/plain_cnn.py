"""A classifier: two convolutions and a global average."""

from torch import Tensor, nn

from dpt_ray.config.classifier_section import ClassifierModelConfig
from dpt_ray.config.section import Count
from dpt_ray.core.models.base_networks import ClassifierNetwork
from dpt_ray.core.models.batch_norm import BatchNorm2d  # nn.BatchNorm2d would differ between workers


class PlainCnnConfig(ClassifierModelConfig):
    """The settings of `stageN.model` with `name: plain_cnn`."""

    hidden: Count = 16
    """Channels of both convolutions."""

    def build(self, *, channels: int, num_classes: int) -> ClassifierNetwork:
        """Return the network for images of some channels."""
        return PlainCnn(self.hidden, channels, num_classes)


class PlainCnn(ClassifierNetwork):
    """Logits (B, num_classes) of normalised images (B, C, H, W)."""

    def __init__(self, hidden: int, channels: int, num_classes: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1), BatchNorm2d(hidden), nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, stride=2, padding=1), BatchNorm2d(hidden), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(hidden, num_classes)

    def features(self, x_BCHW: Tensor) -> Tensor:
        """(B, hidden)."""
        return self.layers(x_BCHW).mean(dim=(2, 3))
