"""A compact classifier for small images that trains in a minute on two CPU cores."""

from torch import Tensor, nn
from torch.nn import functional

from dpt_ray.core.models.base_networks import ClassifierNetwork
from dpt_ray.core.models.batch_norm import BatchNorm2d

LEAK = 0.1


def _convolution(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        BatchNorm2d(out_channels),
        nn.LeakyReLU(LEAK, inplace=True),
    )


class SmallCnn(ClassifierNetwork):
    """Five 3x3 convolutions with batch norm, two of them with stride 2, then global average pooling.

    It is meant for images of 8x8 to 32x32 pixels. Batch norm's momentum of 0.1 lets the running statistics follow
    within some tens of steps, so that a run of a few hundred steps can be evaluated.

    Args:
        in_channels: channels of the images.
        num_classes: number of logits.
        width: channels of the first two convolutions; the next two have 2, the last has 4 times as many.
    """

    def __init__(self, in_channels: int, num_classes: int, width: int = 32):
        super().__init__()
        self.layers = nn.Sequential(
            _convolution(in_channels, width),
            _convolution(width, width),
            _convolution(width, 2 * width, stride=2),
            _convolution(2 * width, 2 * width),
            _convolution(2 * width, 4 * width, stride=2),
        )
        self.feature_size = 4 * width
        self.head = nn.Linear(self.feature_size, num_classes)
        for module in self.layers.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=LEAK, mode="fan_out")

    def features(self, x_BCHW: Tensor) -> Tensor:
        """Return the averaged last activations, (B, 4 * width), of normalised float images (B, C, H, W)."""
        return functional.adaptive_avg_pool2d(self.layers(x_BCHW), 1).flatten(1)
