"""Inception-v3 as the literature's FID, sFID and inception score use it: the graph that TensorFlow released in 2015.

Its differences from the network of the paper (Szegedy et al. 2016): average pooling leaves padding out of the mean, the
last block pools by the maximum, and there are 1008 logits. Tensors have the names of torchvision's Inception-v3, as in
the published port to torch (pytorch-fid and torch-fidelity use the same file). Shapes: B images.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, linear, max_pool2d, relu

LOGITS, POOLED = 1008, 2048
SPATIAL_CHANNELS = 7
SPATIAL = SPATIAL_CHANNELS * 17 * 17
"""Number of spatial features, 2023."""

_SIDE = 299

Kernel = tuple[int, int]


class Layer(NamedTuple):
    """A convolution: output channels, height and width of the kernel, stride. With stride 2 it has no padding."""

    channels: int
    kernel: Kernel = (1, 1)
    stride: int = 1


Branch = Sequence[Layer | tuple[Layer, Layer]]
"""Convolutions one after another. A pair stands for two that read the same input; their outputs are joined."""

Pooling = Literal["average", "maximum", "halving"]
"""`average` and `maximum` keep the size and precede a convolution; `halving` is a maximum with stride 2."""


class InceptionFeatures(NamedTuple):
    """What the metrics need of each image.

    Attributes:
        pooled: float32 (B, 2048); for FID and KID.
        spatial: float32 (B, 2023); for sFID. The first 7 channels of the 1x1 branch of the block `Mixed_6d`
            (`mixed_6/conv` of the released graph), ordered by height, width and channel.
        logits: float32 (B, 1008), without bias; for the inception score.
    """

    pooled: Tensor
    spatial: Tensor
    logits: Tensor


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, inputs: int, layer: Layer, padding: Kernel):
        super().__init__()
        self.conv = nn.Conv2d(inputs, layer.channels, layer.kernel, layer.stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(layer.channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, channels, H', W')."""
        return relu(self.bn(self.conv(x)), inplace=True)


class Block(nn.Module):
    """Branches that read the same input, joined by channel.

    Args:
        inputs: input channels.
        branches: name -> branch. A layer is named after its branch and its number, if there are several.
        pooling: that of the last branch.
    """

    def __init__(self, inputs: int, branches: Mapping[str, Branch], pooling: Pooling):
        super().__init__()
        self.pooling = pooling
        self.paths: list[list[tuple[str, ...]]] = []
        for name, branch in branches.items():
            channels = inputs
            path: list[tuple[str, ...]] = []
            for number, step in enumerate(branch, start=1):
                layers = [step] if isinstance(step, Layer) else list(step)
                base = name if len(branch) == 1 else f"{name}_{number}"
                names = (base,) if len(layers) == 1 else (f"{base}a", f"{base}b")
                for own, layer in zip(names, layers, strict=True):
                    setattr(self, own, ConvNorm(channels, layer, _padding(layer)))
                channels = sum(layer.channels for layer in layers)
                path.append(names)
            self.paths.append(path)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, channels, H', W')."""
        outputs = []
        for path in self.paths:
            y = self._pool(x) if path == [("branch_pool",)] else x
            for names in path:
                y = torch.cat([self.get_submodule(name)(y) for name in names], 1)
            outputs.append(y)
        if self.pooling == "halving":
            outputs.append(max_pool2d(x, 3, stride=2))
        return torch.cat(outputs, 1)

    def _pool(self, x: Tensor) -> Tensor:
        if self.pooling == "average":
            return avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        return max_pool2d(x, 3, stride=1, padding=1)


class Inception(nn.Module):
    """The network. It has random weights until a state dict is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _plain(3, Layer(32, (3, 3), 2))
        self.Conv2d_2a_3x3 = ConvNorm(32, Layer(32, (3, 3)), (0, 0))
        self.Conv2d_2b_3x3 = _plain(32, Layer(64, (3, 3)))
        self.Conv2d_3b_1x1 = _plain(64, Layer(80))
        self.Conv2d_4a_3x3 = ConvNorm(80, Layer(192, (3, 3)), (0, 0))
        self.Mixed_5b = _block_a(192, 32)
        self.Mixed_5c = _block_a(256, 64)
        self.Mixed_5d = _block_a(288, 64)
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b = _block_c(128)
        self.Mixed_6c = _block_c(160)
        self.Mixed_6d = _block_c(160)
        self.Mixed_6e = _block_c(192)
        self.Mixed_7a = _block_d(768)
        self.Mixed_7b = _block_e(1280, "average")
        self.Mixed_7c = _block_e(2048, "maximum")
        self.fc = nn.Linear(POOLED, LOGITS)
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> InceptionFeatures:
        """Compute the features of uint8 images (B, 1 or 3, H, W) of any size."""
        if images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        x = (resize_as_tensorflow(images.float(), _SIDE) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(max_pool2d(x, 3, stride=2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(max_pool2d(x, 3, stride=2))))
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))
        spatial = self.Mixed_6d.get_submodule("branch1x1")(x)[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)
        x = self.Mixed_6e(self.Mixed_6d(x))
        pooled = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))
        return InceptionFeatures(pooled, spatial, linear(pooled, self.fc.weight))


def resize_as_tensorflow(images: Tensor, size: int) -> Tensor:
    """Resize float images (B, C, H, W) to (B, C, size, size) bilinearly, as TensorFlow 1 did.

    Output pixel i reads the input at i * H / size: pixels are points at integers, not squares around half-integers, and
    nothing is smoothed before a reduction.
    """
    for axis in (3, 2):  # columns first, as in TensorFlow's kernel
        side = images.shape[axis]
        place = torch.arange(size, dtype=torch.float32, device=images.device) * (side / size)
        low = place.long().clamp_max(side - 1)
        weight = (place - low).reshape([size if a == axis else 1 for a in range(4)])
        first, second = images.index_select(axis, low), images.index_select(axis, (low + 1).clamp_max(side - 1))
        images = first + (second - first) * weight
    return images


def _plain(inputs: int, layer: Layer) -> ConvNorm:
    return ConvNorm(inputs, layer, _padding(layer))


def _padding(layer: Layer) -> Kernel:
    return (0, 0) if layer.stride == 2 else (layer.kernel[0] // 2, layer.kernel[1] // 2)


def _block_a(inputs: int, pooled: int) -> Block:
    branches: dict[str, Branch] = {
        "branch1x1": [Layer(64)],
        "branch5x5": [Layer(48), Layer(64, (5, 5))],
        "branch3x3dbl": [Layer(64), Layer(96, (3, 3)), Layer(96, (3, 3))],
        "branch_pool": [Layer(pooled)],
    }
    return Block(inputs, branches, "average")


def _block_b(inputs: int) -> Block:
    branches: dict[str, Branch] = {
        "branch3x3": [Layer(384, (3, 3), 2)],
        "branch3x3dbl": [Layer(64), Layer(96, (3, 3)), Layer(96, (3, 3), 2)],
    }
    return Block(inputs, branches, "halving")


def _block_c(c: int) -> Block:
    across, down = (1, 7), (7, 1)
    branches: dict[str, Branch] = {
        "branch1x1": [Layer(192)],
        "branch7x7": [Layer(c), Layer(c, across), Layer(192, down)],
        "branch7x7dbl": [Layer(c), Layer(c, down), Layer(c, across), Layer(c, down), Layer(192, across)],
        "branch_pool": [Layer(192)],
    }
    return Block(768, branches, "average")


def _block_d(inputs: int) -> Block:
    branches: dict[str, Branch] = {
        "branch3x3": [Layer(192), Layer(320, (3, 3), 2)],
        "branch7x7x3": [Layer(192), Layer(192, (1, 7)), Layer(192, (7, 1)), Layer(192, (3, 3), 2)],
    }
    return Block(inputs, branches, "halving")


def _block_e(inputs: int, pooling: Pooling) -> Block:
    both = Layer(384, (1, 3)), Layer(384, (3, 1))
    branches: dict[str, Branch] = {
        "branch1x1": [Layer(320)],
        "branch3x3": [Layer(384), both],
        "branch3x3dbl": [Layer(448), Layer(384, (3, 3)), both],
        "branch_pool": [Layer(192)],
    }
    return Block(inputs, branches, pooling)
