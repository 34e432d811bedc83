"""EfficientNet-Lite0 as a frozen encoder: a convolutional network for CPUs.

It is EfficientNet-B0 (Tan and Le 2019) without squeeze-and-excite, with ReLU6 in the place of swish.

Its published weights name the parameters, so the names here are theirs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpt_ray.core.pixels import normalise

LITE = "efficientnet-lite0"
"""Value of `probe.encoder` that stands for this encoder."""

FEATURES = 1280
_MEAN, _STD = (127 / 255,) * 3, (128 / 255,) * 3
_EPSILON = 1e-3


@dataclass(frozen=True)
class _Stage:
    """Blocks of one width: their number, kernel, first stride, expansion, and channels."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
"""Table 1 of Tan and Le (2019)."""


class _SamePadding(nn.Conv2d):
    """A convolution whose output has ceil(side / stride) pixels; an odd padding has its larger half below and right."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        padding = []
        for side, kernel, stride in zip(x_BCHW.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            padding += [total // 2, total - total // 2]
        return functional.conv2d(functional.pad(x_BCHW, padding), self.weight, None, self.stride, 0, 1, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON)


class _Block(nn.Module):
    """An inverted residual block: expand, filter each channel, project."""

    def __init__(self, in_channels: int, stage: _Stage, stride: int):
        super().__init__()
        inner = in_channels * stage.expansion
        self.expands = stage.expansion > 1
        if self.expands:
            self._expand_conv, self._bn0 = nn.Conv2d(in_channels, inner, 1, bias=False), _norm(inner)
        self._depthwise_conv = _SamePadding(inner, inner, stage.kernel, stride, groups=inner, bias=False)
        self._bn1 = _norm(inner)
        self._project_conv, self._bn2 = nn.Conv2d(inner, stage.channels, 1, bias=False), _norm(stage.channels)
        self.is_residual = stride == 1 and in_channels == stage.channels

    def forward(self, x_BCHW: Tensor) -> Tensor:
        hidden = x_BCHW
        if self.expands:
            hidden = functional.relu6(self._bn0(self._expand_conv(hidden)))
        hidden = functional.relu6(self._bn1(self._depthwise_conv(hidden)))
        hidden = self._bn2(self._project_conv(hidden))
        return x_BCHW + hidden if self.is_residual else hidden


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 up to its averaged last activations.

    Args:
        crop: height and width in pixels of the centre crop that is encoded.
    """

    def __init__(self, crop: int = 224):
        super().__init__()
        self.crop = crop
        self.feature_size = FEATURES
        self._conv_stem, self._bn0 = _SamePadding(3, 32, 3, 2, bias=False), _norm(32)
        blocks, channels = [], 32
        for stage in _STAGES:
            for number in range(stage.repeats):
                blocks.append(_Block(channels, stage, stage.stride if number == 0 else 1))
                channels = stage.channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = nn.Conv2d(channels, FEATURES, 1, bias=False), _norm(FEATURES)
        self.eval().requires_grad_(False)
        # A quarter less time on CPUs. The argument is not in torch's stubs.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def load_published(self, weights: Mapping[str, Tensor]) -> None:
        """Load published weights; those of the classifier on ImageNet's classes are left out.

        Raises:
            RuntimeError: names or shapes are others.
        """
        self.load_state_dict({name: value for name, value in weights.items() if not name.startswith("_fc.")})

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Encode uint8 RGB images (B, 3, H, W), H and W at least `crop`; return features (B, 1280) float32."""
        top, left = ((side - self.crop) // 2 for side in images.shape[2:])
        cropped = images[:, :, top : top + self.crop, left : left + self.crop].to(self._conv_stem.weight.device)
        hidden = functional.relu6(self._bn0(self._conv_stem(normalise(cropped, _MEAN, _STD))))
        for block in self._blocks:
            hidden = block(hidden)
        return functional.relu6(self._bn1(self._conv_head(hidden))).mean((2, 3))
