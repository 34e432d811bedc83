"""ResNet-18 in the form for small images (He et al. 2016; the form of SimCLR's appendix B.9)."""

from torch import Tensor, nn
from torch.nn import functional

from dpt_ray.core.models.base_networks import ClassifierNetwork
from dpt_ray.core.models.batch_norm import BatchNorm2d


def _convolution(in_channels: int, out_channels: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to a shortcut before the last ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1, self.norm1 = _convolution(in_channels, out_channels, 3, stride), BatchNorm2d(out_channels)
        self.conv2, self.norm2 = _convolution(out_channels, out_channels, 3), BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(_convolution(in_channels, out_channels, 1, stride), BatchNorm2d(out_channels))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        residual = functional.relu(self.norm1(self.conv1(x_BCHW)))
        return functional.relu(self.shortcut(x_BCHW) + self.norm2(self.conv2(residual)))


class ResNet18(ClassifierNetwork):
    """ResNet-18 whose stem is a 3x3 convolution of stride 1 without max pooling, for images of about 32x32 pixels.

    With `width` 64, 3 channels and 10 classes it has 11,173,962 parameters.

    Args:
        in_channels: channels of the images.
        num_classes: number of logits.
        width: channels of the first group of blocks; each of the next three groups doubles them and halves the image.
    """

    def __init__(self, in_channels: int, num_classes: int, width: int = 64):
        super().__init__()
        self.stem, self.norm = _convolution(in_channels, width, 3), BatchNorm2d(width)
        blocks, channels = [], width
        for group in range(4):
            for number in range(2):
                wide = width * 2**group
                blocks.append(BasicBlock(channels, wide, stride=2 if group and not number else 1))
                channels = wide
        self.blocks = nn.Sequential(*blocks)
        self.feature_size = channels
        self.head = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x_BCHW: Tensor) -> Tensor:
        """Return the averaged last activations, (B, 8 * width), of normalised float images (B, C, H, W)."""
        return self.blocks(functional.relu(self.norm(self.stem(x_BCHW)))).mean(dim=(2, 3))
