"""Wide residual network, the CIFAR classifier of FreeMatch and of dual pseudo training.

Shapes: B images, C channels, H by W pixels, D features.
"""

from torch import Tensor, nn
from torch.nn import functional

from dpt_ray.core.models.batch_norm import BatchNorm2d

LEAK = 0.1


def _batch_norm(channels: int) -> BatchNorm2d:
    # Slow running statistics suit runs of 10^5 steps and more; a short run wants `SmallCnn`.
    return BatchNorm2d(channels, eps=1e-3, momentum=1e-3)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each after batch norm and leaky ReLU, added to a shortcut.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; where they differ the shortcut is a 1x1 convolution.
        stride: stride of the first convolution and of the shortcut.
        activate_shortcut: whether the shortcut starts from the activated input instead of the raw one.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, activate_shortcut: bool):
        super().__init__()
        self.norm1 = _batch_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1)
        self.norm2 = _batch_norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride)
        self.activate_shortcut = activate_shortcut

    def forward(self, x_BCHW: Tensor) -> Tensor:
        activated = functional.leaky_relu(self.norm1(x_BCHW), LEAK)
        residual = self.conv1(activated)
        residual = self.conv2(functional.leaky_relu(self.norm2(residual), LEAK))
        return self.shortcut(activated if self.activate_shortcut else x_BCHW) + residual


class WideResNet(nn.Module):
    """Pre-activation wide residual network (Zagoruyko & Komodakis 2016), FreeMatch's variant.

    Three groups of (depth - 4) / 6 blocks with 16, 32 and 64 times `width` channels, the last two
    groups halving the image. Convolutions have biases. WRN-28-2 for 3 channels and 10 classes has
    1,469,642 parameters.

    Args:
        depth: convolutions on the main path; 6 n + 4.
        width: channel multiplier.
        in_channels: channels of the images.
        num_classes: number of logits.

    Raises:
        ValueError: `depth` is not 6 n + 4 with n >= 1.
    """

    def __init__(self, depth: int = 28, width: int = 2, in_channels: int = 3, num_classes: int = 10):
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"WideResNet depth must be 6 n + 4 with n >= 1 (10, 16, 22, 28, ...), got {depth}")
        blocks_per_group = (depth - 4) // 6
        self.stem = nn.Conv2d(in_channels, 16, 3, padding=1)
        blocks: list[nn.Module] = []
        channels = 16
        for group, base in enumerate((16, 32, 64)):
            for block in range(blocks_per_group):
                first = block == 0
                stride = 2 if first and group > 0 else 1
                # The stem has no activation of its own, so only the first block's shortcut is activated.
                blocks.append(ResidualBlock(channels, base * width, stride, activate_shortcut=first and group == 0))
                channels = base * width
        self.blocks = nn.Sequential(*blocks)
        self.norm = _batch_norm(channels)
        self.head = nn.Linear(channels, num_classes)
        self.feature_size = channels
        self._initialise()

    def features(self, x_BCHW: Tensor) -> Tensor:
        """Globally averaged last activations, (B, D), for float images of at least 8x8 pixels."""
        x_BCHW = self.blocks(self.stem(x_BCHW))
        return functional.leaky_relu(self.norm(x_BCHW), LEAK).mean(dim=(2, 3))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits, (B, num_classes), for normalised float images."""
        return self.head(self.features(x_BCHW))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.xavier_normal_(self.head.weight)
        nn.init.zeros_(self.head.bias)
