"""Wide residual network, the CIFAR classifier of FreeMatch and of dual pseudo training.

Shapes: B images, C channels, H by W pixels, D features.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpt_ray.core.models.base_networks import ClassifierNetwork
from dpt_ray.core.models.batch_norm import BatchNorm2d

LEAK = 0.1

Form = Literal["torchssl", "preactivation"]
"""Two variants of the network with equal numbers of parameters; see `WideResNet`."""


def _batch_norm(channels: int) -> BatchNorm2d:
    # The running statistics follow within 10^3 steps, which suits runs of 10^5 steps. Short runs need `SmallCnn`.
    return BatchNorm2d(channels, eps=1e-3, momentum=1e-3)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each after batch norm and leaky ReLU, added to a shortcut.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; if they differ from `in_channels`, the shortcut is a 1x1 convolution.
        stride: stride of the first convolution and of the shortcut.
        activate_shortcut: the shortcut reads the activated input instead of the raw one.
        skip_first_norm: the first convolution reads the raw input. The first batch norm then only tracks the
            statistics of the input. Its weight and bias are not trained: no gradient, no weight decay.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        *,
        activate_shortcut: bool,
        skip_first_norm: bool = False,
    ):
        super().__init__()
        self.norm1 = _batch_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1)
        self.norm2 = _batch_norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride)
        self.activate_shortcut, self.skip_first_norm = activate_shortcut, skip_first_norm
        if skip_first_norm:
            # DistributedDataParallel waits for the gradient of every parameter that requires one.
            self.norm1.requires_grad_(False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.skip_first_norm:
            if self.training:
                with torch.no_grad():
                    self.norm1(x_BCHW)  # for its running statistics
            activated = x_BCHW
        else:
            activated = functional.leaky_relu(self.norm1(x_BCHW), LEAK)
        residual = self.conv1(activated)
        residual = self.conv2(functional.leaky_relu(self.norm2(residual), LEAK))
        return self.shortcut(activated if self.activate_shortcut else x_BCHW) + residual


class WideResNet(ClassifierNetwork):
    """Pre-activation wide residual network (Zagoruyko & Komodakis 2016) as the FixMatch family uses it.

    Three groups of (depth - 4) / 6 blocks have 16, 32 and 64 times `width` channels; the last two groups halve the
    image. Convolutions have biases. WRN-28-2 for 3 channels and 10 classes has 1,469,642 parameters.

    The two forms differ in two places:

    - `torchssl` is the network of TorchSSL, which the results of FreeMatch and dual pseudo training were published
      with. In the first block of groups 2 and 3, the first convolution reads the block's raw input. Biases of
      convolutions start as torch draws them, uniform in +-1 / sqrt(fan_in).
    - `preactivation` is the original network: every 3x3 convolution follows batch norm and activation (He et al.
      2016). Biases of convolutions start at zero.

    Args:
        depth: convolutions on the main path, 6 n + 4 with n >= 1.
        width: channel multiplier.
        in_channels: channels of the images.
        num_classes: number of logits.
        form: `torchssl` or `preactivation`.

    Raises:
        ValueError: `depth` is not 6 n + 4 with n >= 1.
    """

    head: nn.Linear

    def __init__(
        self,
        depth: int = 28,
        width: int = 2,
        in_channels: int = 3,
        num_classes: int = 10,
        form: Form = "torchssl",
    ):
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"WideResNet depth must be 6 n + 4 with n >= 1 (10, 16, 22, 28, ...), got {depth}")
        blocks_per_group = (depth - 4) // 6
        self.stem = nn.Conv2d(in_channels, 16, 3, padding=1)
        blocks: list[nn.Module] = []
        channels = 16
        for group, base in enumerate((16, 32, 64)):
            for number in range(blocks_per_group):
                blocks.append(_block(form, channels, base * width, group, is_first=number == 0))
                channels = base * width
        self.blocks = nn.Sequential(*blocks)
        self.norm = _batch_norm(channels)
        self.head = nn.Linear(channels, num_classes)
        self.feature_size = channels
        self._initialise(form)

    def features(self, x_BCHW: Tensor) -> Tensor:
        """Return the averaged last activations, (B, D), of normalised float images (B, C, H, W), H and W at least 8."""
        x_BCHW = self.blocks(self.stem(x_BCHW))
        return functional.leaky_relu(self.norm(x_BCHW), LEAK).mean(dim=(2, 3))

    def _initialise(self, form: Form) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if form == "preactivation" and module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.xavier_normal_(self.head.weight)
        nn.init.zeros_(self.head.bias)


def _block(form: Form, in_channels: int, out_channels: int, group: int, *, is_first: bool) -> ResidualBlock:
    """Return a block of group 0, 1 or 2."""
    stride = 2 if is_first and group > 0 else 1
    # The stem has no activation, so the shortcut of the very first block reads the activated input.
    activate_shortcut = is_first and group == 0
    if form == "preactivation":
        return ResidualBlock(in_channels, out_channels, stride, activate_shortcut=activate_shortcut)
    widens = in_channels != out_channels
    return ResidualBlock(
        in_channels,
        out_channels,
        stride,
        activate_shortcut=activate_shortcut and widens,
        skip_first_norm=widens and not activate_shortcut,
    )
