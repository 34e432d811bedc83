"""DDPM++: the convolutional U-Net of score-based models, as EDM trains it on CIFAR-10.

Written from Song et al., "Score-Based Generative Modeling through SDEs" (2021, appendix H), and Karras et al.,
"Elucidating the Design Space of Diffusion-Based Generative Models" (2022, appendix F and table 7).

In the shapes below E is the width of the joint embedding of noise level, label and augmentation.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpt_ray.core.label_mixtures import LabelMixtures
from dpt_ray.core.models.attention import attend
from dpt_ray.core.models.base_networks import DenoiserNetwork
from dpt_ray.core.models.confidence_embedding import ConfidenceEmbedding
from dpt_ray.core.models.recompute import run_block
from dpt_ray.core.models.row_dropout import row_dropout

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)

MAX_PERIOD = 10_000.0
SKIP_SCALE = math.sqrt(0.5)
"""Factor of the sum of skip connection and residual branch; it keeps the variance of either."""

BRANCH_SCALE = 1e-5
"""Scale of the initial weights of a branch's last layer, so that each block starts close to its skip connection."""

ATTENTION_SCALE = math.sqrt(0.2)
"""Scale of the initial weights of queries, keys and values."""


def noise_embedding(noise: Tensor, dim: int) -> Tensor:
    """Embed noise levels as sines, then cosines; frequencies fall from 1 to 1 / `MAX_PERIOD`, both included.

    Args:
        noise: (B,) float noise levels, as the process scales them.
        dim: width of the embedding; even, at least 4.

    Returns:
        (B, dim) float32.
    """
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float32, device=noise.device) / (half - 1)
    angles = noise.float()[:, None] * torch.exp(-math.log(MAX_PERIOD) * exponents)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class SelfAttention(nn.Module):
    """Single-head self-attention over all pixels, with a residual connection."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = _group_norm(channels)
        self.qkv = _initialised(nn.Conv2d(channels, 3 * channels, 1), ATTENTION_SCALE)
        self.projection = _initialised(nn.Conv2d(channels, channels, 1), BRANCH_SCALE)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        # (B, 3 C, H, W) -> three of (B, 1, H W, C)
        queries, keys, values = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).unsqueeze(1).chunk(3, dim=3)
        attended = attend(queries, keys, values)
        return (x + self.projection(attended.squeeze(1).transpose(1, 2).reshape(x.shape))) * SKIP_SCALE


class Block(nn.Module):
    """A residual block: optional resampling, two convolutions, optional self-attention.

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        embedding: width E of the joint embedding.
        dropout_index: index of the block's dropout in the network; see `row_dropout`.
        dropout: probability, in [0, 1).
        resample: halve ("down") or double ("up") height and width before the first convolution.
        attention: apply self-attention to the output.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        embedding: int,
        *,
        dropout_index: int,
        dropout: float,
        resample: Literal["down", "up"] | None = None,
        attention: bool = False,
    ):
        super().__init__()
        self.dropout_index, self.dropout, self.resample = dropout_index, dropout, resample
        self.norm_in = _group_norm(in_channels)
        self.conv_in = _initialised(nn.Conv2d(in_channels, channels, 3, padding=1))
        self.condition = _initialised(nn.Linear(embedding, channels))
        self.norm_out = _group_norm(channels)
        self.conv_out = _initialised(nn.Conv2d(channels, channels, 3, padding=1), BRANCH_SCALE)
        plain = in_channels == channels and resample is None
        self.skip = nn.Identity() if plain else _initialised(nn.Conv2d(in_channels, channels, 1))
        self.attention = SelfAttention(channels) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor, dropout_seed: Tensor | None) -> Tensor:
        """Map x (B, in_channels, H, W), embedding (B, E) and dropout seeds (B,) to (B, channels, H', W')."""
        branch = self.conv_in(self._resampled(functional.silu(self.norm_in(x))))
        branch = functional.silu(self.norm_out(branch + self.condition(embedding)[:, :, None, None]))
        if dropout_seed is not None and self.dropout > 0:
            branch = row_dropout(branch, dropout_seed, self.dropout, self.dropout_index)
        x = (self.skip(self._resampled(x)) + self.conv_out(branch)) * SKIP_SCALE
        return self.attention(x)

    def _resampled(self, x: Tensor) -> Tensor:
        """Average each 2x2 square of pixels, repeat each pixel in a 2x2 square, or change nothing."""
        if self.resample == "down":
            return functional.avg_pool2d(x, 2)
        if self.resample == "up":
            return functional.interpolate(x, scale_factor=2, mode="nearest")
        return x


class DdpmPlusPlus(DenoiserNetwork):
    """A class-conditional DDPM++.

    The encoder has `blocks` residual blocks on each level, and halves the image between levels. Two blocks follow at
    the coarsest level. The decoder has `blocks + 1` blocks on each level; each also reads the output of its
    counterpart in the encoder. Self-attention stands in three places: in every encoder block of a level in
    `attention_sizes`, in the last decoder block of such a level, and in the first of the two blocks between.

    Args:
        image_size: height and width of the image in pixels; divisible by `space_to_depth`, and by 2 once for each
            further level.
        in_channels: channels of the input and the output image.
        channels: base width, a multiple of 4: channels of the first convolution. E is four times as wide.
        multipliers: width of each level, as a multiple of `channels`.
        blocks: residual blocks of a level of the encoder.
        attention_sizes: sides of the levels with attention, in pixels or, with `space_to_depth`, in squares.
        dropout: probability, in [0, 1).
        num_classes: number of classes; 0 for an unconditional model.
        augmentation_dim: width of the vector that describes an image's augmentation; 0 for no such conditioning.
        confidence: condition the network on the confidence of each label.
        space_to_depth: side in pixels of the squares that become channels before the first convolution, and pixels
            again after the last (Shi et al. 2016, "Real-Time Single Image and Video Super-Resolution ...", section
            3.2; in a diffusion model: Hoogeboom et al. 2023, "simple diffusion", section 3.2). 1 for none, as in EDM.

    Attributes:
        null_label: the label that means "no label" (`num_classes`).
        recompute: checkpoint activations: the backward pass computes those of the blocks a second time, which
            saves memory. False by default.

    Raises:
        ValueError: `space_to_depth`, times 2 for each further level, does not divide `image_size`; or `channels` is no
            multiple of 4.
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
        space_to_depth: int = 1,
    ):
        super().__init__()
        levels = len(multipliers)
        if image_size % (space_to_depth * 2 ** (levels - 1)):
            raise ValueError(
                f"image_size must be divisible by space_to_depth, {space_to_depth}, and by 2 once for each of the "
                f"{levels - 1} halvings: got {image_size}"
            )
        if channels % 4 or channels < 8:
            raise ValueError(f"channels must be a multiple of 4, at least 8: got {channels}")
        self.image_shape = (in_channels, image_size, image_size)
        self.channels, self.null_label, self.space_to_depth = channels, num_classes, space_to_depth
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

        dropout_indices = count()

        def block(width: int, out_width: int, **options: Any) -> Block:
            return Block(width, out_width, embedding, dropout_index=next(dropout_indices), dropout=dropout, **options)

        widths = [channels * multiplier for multiplier in multipliers]
        attentive = [image_size // space_to_depth // 2**level in attention_sizes for level in range(levels)]
        self.first = _initialised(nn.Conv2d(in_channels * space_to_depth**2, channels, 3, padding=1))
        self.encoder, skips = _encoder(block, channels, widths, attentive, blocks)
        width = widths[-1]
        self.bottom = nn.ModuleList([block(width, width, attention=True), block(width, width)])
        self.decoder = _decoder(block, skips, widths, attentive, blocks + 1)
        self.norm = _group_norm(widths[0])
        self.last = _initialised(nn.Conv2d(widths[0], in_channels * space_to_depth**2, 3, padding=1), BRANCH_SCALE)

    def blocks(self) -> list[nn.Module]:
        """Return the blocks in the order of the forward pass; they hold nearly all weights."""
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
            time: (B,) float, the network's input for the noise level (`Coefficients.time`).
            label: (B,) int64 in [0, num_classes]; `null_label` means "no label".
            augmentation: (B, augmentation_dim), the augmentation of each image; no image is augmented if None.
            dropout_seed: (B,) int64 in [0, 2^31), seed of each row's dropout masks; no dropout if None.
            confidence: (B,) float in [0, 1], confidence of each label; 1 if None. A network without confidence
                conditioning ignores it.

        Returns:
            (B, in_channels, image_size, image_size).

        Raises:
            ValueError: the shape of the images is not the one that the network was built for.
        """
        if x.shape[1:] != self.image_shape:
            raise ValueError(
                f"images must have shape (B, {', '.join(map(str, self.image_shape))}): got {tuple(x.shape)}"
            )
        embedding = self._embed(time, label, augmentation, confidence).to(x.dtype)
        x = self.first(functional.pixel_unshuffle(x, self.space_to_depth))
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
        return functional.pixel_shuffle(self.last(functional.silu(self.norm(x))), self.space_to_depth)

    def mixed_labels(self, held: Mapping[str, Tensor], mixtures: LabelMixtures) -> dict[str, Tensor]:
        """See `DenoiserNetwork`."""
        if self.label_embedding is None:
            return {}
        name = "label_embedding.weight"  # (E, labels), which `_embed` scales by the square root of their number
        scales = [math.sqrt(number) for number in mixtures.shape]
        rows = mixtures.mixed(held[name].T * scales[1], self.label_embedding.weight.detach().T * scales[0])
        return {name: (rows / scales[0]).T.contiguous()}

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
    """Return the encoder, and the widths of its skip connections, the first convolution's included."""
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
    """Return the decoder; it pops `skips`, the widths of the encoder's skip connections, from the end."""
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
    """Return group normalisation with at most 32 equal groups of at least 4 channels."""
    groups = min(32, channels // 4)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels, eps=1e-6)


def _initialised(layer: Layer, scale: float = 1.0) -> Layer:
    """Draw Xavier-uniform weights, times `scale`, and set the bias to zero."""
    nn.init.xavier_uniform_(layer.weight, gain=scale)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
