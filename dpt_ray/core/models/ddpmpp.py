"""DDPM++: the convolutional U-Net of score-based models, as EDM trains it on CIFAR-10.

Written from Song et al., "Score-Based Generative Modeling through SDEs" (2021, appendix H), and Karras et al.,
"Elucidating the Design Space of Diffusion-Based Generative Models" (2022, appendix F and table 7). E is the width of
the embedding of noise level, label and augmentation.
"""

import math
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpt_ray.core.models.base_networks import DenoiserNetwork
from dpt_ray.core.models.confidence_embedding import ConfidenceEmbedding
from dpt_ray.core.models.recompute import run_block
from dpt_ray.core.models.row_dropout import row_dropout

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)

MAX_PERIOD = 10_000.0
SKIP_SCALE = math.sqrt(0.5)
"""Of every sum of a block's two branches, so that it has the variance of one."""

FIRST_STEP = 1e-5
"""Scale of the initial weights that end a branch: at first each block is nearly its skip connection."""

ATTENTION_SCALE = math.sqrt(0.2)
"""Scale of the initial weights of queries, keys and values."""


def noise_embedding(noise: Tensor, dim: int) -> Tensor:
    """Embed noise levels as sines, then cosines; frequencies fall from 1 to 1 / `MAX_PERIOD`, both included.

    Args:
        noise: (B,) float.
        dim: even, at least 4.

    Returns:
        (B, dim) float32.
    """
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float32, device=noise.device) / (half - 1)
    angles = noise.float()[:, None] * torch.exp(-math.log(MAX_PERIOD) * exponents)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class SelfAttention(nn.Module):
    """Attention with one head between all pixels, and its residual connection."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = _group_norm(channels)
        self.qkv = _initialised(nn.Conv2d(channels, 3 * channels, 1), ATTENTION_SCALE)
        self.projection = _initialised(nn.Conv2d(channels, channels, 1), FIRST_STEP)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        # (B, 3 C, H, W) -> three of (B, 1, H W, C)
        queries, keys, values = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).unsqueeze(1).chunk(3, dim=3)
        attended = functional.scaled_dot_product_attention(queries, keys, values)
        return (x + self.projection(attended.squeeze(1).transpose(1, 2).reshape(x.shape))) * SKIP_SCALE


class Block(nn.Module):
    """A residual block that may halve or double the image's sides first, and attention after it where wanted."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        embedding: int,
        *,
        place: int,
        dropout: float,
        resample: Literal["down", "up"] | None = None,
        attention: bool = False,
    ):
        super().__init__()
        self.place, self.dropout, self.resample = place, dropout, resample
        self.norm_in = _group_norm(in_channels)
        self.conv_in = _initialised(nn.Conv2d(in_channels, channels, 3, padding=1))
        self.condition = _initialised(nn.Linear(embedding, channels))
        self.norm_out = _group_norm(channels)
        self.conv_out = _initialised(nn.Conv2d(channels, channels, 3, padding=1), FIRST_STEP)
        plain = in_channels == channels and resample is None
        self.skip = nn.Identity() if plain else _initialised(nn.Conv2d(in_channels, channels, 1))
        self.attention = SelfAttention(channels) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor, dropout_seed: Tensor | None) -> Tensor:
        """(B, in_channels, H, W), (B, E), (B,) -> (B, channels, H', W')."""
        branch = self.conv_in(self._resampled(functional.silu(self.norm_in(x))))
        branch = functional.silu(self.norm_out(branch + self.condition(embedding)[:, :, None, None]))
        if dropout_seed is not None and self.dropout > 0:
            branch = row_dropout(branch, dropout_seed, self.dropout, self.place)
        x = (self.skip(self._resampled(x)) + self.conv_out(branch)) * SKIP_SCALE
        return self.attention(x)

    def _resampled(self, x: Tensor) -> Tensor:
        """Average squares of four pixels, or repeat each pixel in a square of four."""
        if self.resample == "down":
            return functional.avg_pool2d(x, 2)
        if self.resample == "up":
            return functional.interpolate(x, scale_factor=2, mode="nearest")
        return x


class DdpmPlusPlus(DenoiserNetwork):
    """A class-conditional DDPM++.

    From the finest level to the coarsest `blocks` residual blocks each, a step of halving between levels; two blocks
    at the bottom; back up with `blocks + 1` blocks a level, each of which also sees the output of its
    counterpart on the way down. Attention is in every encoder block of `attention_sizes`, in the last decoder
    block of each such level, and in the first block at the bottom.

    Args:
        image_size: height and width of the image in pixels; divisible by 2 once for each further level.
        in_channels: channels of the image, going in and coming out.
        channels: base width, a multiple of 4; the first convolution has it, and E is four times as wide.
        multipliers: width of each level in `channels`.
        blocks: residual blocks of a level.
        attention_sizes: image sides, in pixels, of the levels with attention.
        dropout: probability, in [0, 1).
        num_classes: number of classes; 0 for an unconditional model.
        augmentation_dim: width of the description of an image's augmentation; 0 for none.
        confidence: the network is told how confident each label is.

    Attributes:
        null_label: the label that means "no label" (`num_classes`).
        recompute: compute the blocks' activations anew in the backward pass instead of keeping them (False).

    Raises:
        ValueError: `image_size` cannot be halved so often, or `channels` is no multiple of 4.
    """

    def __init__(
        self,
        *,
        image_size: int,
        in_channels: int,
        num_classes: int,
        channels: int = 128,
        multipliers: Sequence[int] = (2, 2, 2),
        blocks: int = 4,
        attention_sizes: Sequence[int] = (16,),
        dropout: float = 0.13,
        augmentation_dim: int = 0,
        confidence: bool = False,
    ):
        super().__init__()
        levels = len(multipliers)
        if image_size % 2 ** (levels - 1):
            raise ValueError(
                f"image_size must be divisible by 2 once for each of the {levels - 1} halvings: got {image_size}"
            )
        if channels % 4 or channels < 8:
            raise ValueError(f"channels must be a multiple of 4, at least 8: got {channels}")
        self.image_shape = (in_channels, image_size, image_size)
        self.channels, self.null_label = channels, num_classes
        self.recompute = False
        embedding = 4 * channels
        self.label_embedding = _initialised(nn.Linear(num_classes, channels)) if num_classes else None
        self.augmentation_embedding = (
            _initialised(nn.Linear(augmentation_dim, channels, bias=False)) if augmentation_dim else None
        )
        self.confidence_embedding = ConfidenceEmbedding(channels, noise_embedding, num_classes) if confidence else None
        self.embedding = nn.Sequential(
            _initialised(nn.Linear(channels, embedding)), nn.SiLU(),
            _initialised(nn.Linear(embedding, embedding)), nn.SiLU(),
        )  # fmt: skip

        places = count()

        def block(width: int, out_width: int, **options: Any) -> Block:
            return Block(width, out_width, embedding, place=next(places), dropout=dropout, **options)

        widths = [channels * multiplier for multiplier in multipliers]
        attentive = [image_size // 2**level in attention_sizes for level in range(levels)]
        self.first = _initialised(nn.Conv2d(in_channels, channels, 3, padding=1))
        self.encoder, skips = _encoder(block, channels, widths, attentive, blocks)
        width = widths[-1]
        self.bottom = nn.ModuleList([block(width, width, attention=True), block(width, width)])
        self.decoder = _decoder(block, skips, widths, attentive, blocks + 1)
        self.norm = _group_norm(widths[0])
        self.last = _initialised(nn.Conv2d(widths[0], in_channels, 3, padding=1), FIRST_STEP)

    def blocks(self) -> list[nn.Module]:
        """Return the blocks, which hold nearly all weights, in the order in which they compute."""
        return [*self.encoder, *self.bottom, *self.decoder]

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        label: Tensor,
        *,
        augmentation: Tensor | None = None,
        dropout_seed: Tensor | None = None,
        confidence: Tensor | None = None,
    ) -> Tensor:
        """Map scaled noisy images to the network's prediction.

        Args:
            x: (B, in_channels, image_size, image_size) float.
            time: (B,) float, what the process tells of the noise level.
            label: (B,) int64 in [0, num_classes]; `null_label` means "no label".
            augmentation: (B, augmentation_dim), how each image was augmented; not at all if None.
            dropout_seed: (B,) int64 in [0, 2^31), which fixes what is dropped; nothing is if None.
            confidence: (B,) float in [0, 1], of each label, for a network that is told it; 1 if None.

        Returns:
            (B, in_channels, image_size, image_size).

        Raises:
            ValueError: the images are not of the size that the network was built for.
        """
        if x.shape[1:] != self.image_shape:
            raise ValueError(
                f"images must have shape (B, {', '.join(map(str, self.image_shape))}): got {tuple(x.shape)}"
            )
        embedding = self._embed(time, label, augmentation, confidence).to(x.dtype)
        x = self.first(x)
        skips = [x]
        for block in self.encoder:
            x = run_block(block, x, embedding, dropout_seed, recompute=self.recompute)
            skips.append(x)
        for block in self.bottom:
            x = run_block(block, x, embedding, dropout_seed, recompute=self.recompute)
        for block in self.decoder:
            if block.resample is None:
                x = torch.cat([x, skips.pop()], dim=1)
            x = run_block(block, x, embedding, dropout_seed, recompute=self.recompute)
        return self.last(functional.silu(self.norm(x)))

    def _embed(self, time: Tensor, label: Tensor, augmentation: Tensor | None, confidence: Tensor | None) -> Tensor:
        """Return (B, E)."""
        embedding = noise_embedding(time, self.channels).to(self.first.weight.dtype)
        if self.label_embedding is not None:
            one_hot = functional.one_hot(label, self.null_label + 1)[:, :-1].to(embedding.dtype)
            embedding = embedding + self.label_embedding(one_hot * math.sqrt(self.null_label))
        if self.confidence_embedding is not None:
            embedding = embedding + self.confidence_embedding(label, confidence)
        if self.augmentation_embedding is not None and augmentation is not None:
            embedding = embedding + self.augmentation_embedding(augmentation.to(embedding.dtype))
        return self.embedding(embedding)


def _encoder(
    block: Callable[..., Block], width: int, widths: list[int], attentive: list[bool], blocks: int
) -> tuple[nn.ModuleList, list[int]]:
    """Return the way down and the widths that it hands over, that of the first convolution included."""
    modules, skips = nn.ModuleList(), [width]
    for level, level_width in enumerate(widths):
        if level > 0:
            modules.append(block(width, width, resample="down"))
            skips.append(width)
        for _ in range(blocks):
            modules.append(block(width, level_width, attention=attentive[level]))
            width = level_width
            skips.append(width)
    return modules, skips


def _decoder(
    block: Callable[..., Block], skips: list[int], widths: list[int], attentive: list[bool], blocks: int
) -> nn.ModuleList:
    """Return the way up, which takes over `skips`, the last one first."""
    modules, width = nn.ModuleList(), widths[-1]
    for level in reversed(range(len(widths))):
        if level < len(widths) - 1:
            modules.append(block(width, width, resample="up"))
        for number in range(blocks):
            attention = attentive[level] and number == blocks - 1
            modules.append(block(width + skips.pop(), widths[level], attention=attention))
            width = widths[level]
    return modules


def _group_norm(channels: int) -> nn.GroupNorm:
    """At most 32 groups, of at least 4 channels; fewer where they would not be equal."""
    groups = min(32, channels // 4)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels, eps=1e-6)


def _initialised(layer: Layer, scale: float = 1.0) -> Layer:
    """Xavier-uniform weights times `scale`, and no bias at first."""
    nn.init.xavier_uniform_(layer.weight, gain=scale)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
