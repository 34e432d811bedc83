"""U-ViT: a vision transformer with long skip connections, for diffusion models.

Written from the description in Bao et al., "All are Worth Words: A ViT Backbone for Diffusion
Models" (CVPR 2023). In the shapes below N is the number of tokens and D the embedding width.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpt_ray.core.label_mixtures import LabelMixtures
from dpt_ray.core.models.attention import attend
from dpt_ray.core.models.base_networks import DenoiserNetwork
from dpt_ray.core.models.confidence_embedding import ConfidenceEmbedding
from dpt_ray.core.models.recompute import run_block

NUM_EXTRA_TOKENS = 2
"""The label token and the time token, which precede the patch tokens."""

MAX_PERIOD = 10_000.0


def initialise_linear(network: nn.Module) -> None:
    """Draw the weights of all linear layers from a truncated normal of standard deviation 0.02; biases are 0."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def sinusoidal_embedding(time: Tensor, dim: int) -> Tensor:
    """Embed times as cosines, then sines, of geometrically spaced frequencies up to the period `MAX_PERIOD`.

    Args:
        time: (B,) float, of any range.
        dim: width of the embedding, even.

    Returns:
        (B, dim) float32.
    """
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float32, device=time.device) / half
    # float32 even under autocast: bfloat16 rounds the times 998 and 999 to the same number.
    angles = time.float()[:, None] * torch.exp(-math.log(MAX_PERIOD) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class StreamNorm(nn.LayerNorm):
    """Layer normalisation in the type of its input; the statistics of bfloat16 are computed in float32.

    Autocast alone would compute it in float32 and hand float32 to everything that follows.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        if x.dtype != torch.bfloat16:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return functional.layer_norm(
                x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps
            )


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection to queries, keys and values."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.projection = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        # (B, N, 3 D) -> three of (B, heads, N, D / heads)
        queries, keys, values = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = attend(queries, keys, values)
        return self.projection(attended.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A pre-norm transformer block: attention, then a two-layer perceptron four times as wide."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.attention_norm = StreamNorm(dim)
        self.attention = Attention(dim, heads)
        self.mlp_norm = StreamNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        tokens = tokens + self.attention(self.attention_norm(tokens))
        return tokens + self.mlp(self.mlp_norm(tokens))


class UViT(DenoiserNetwork):
    """A class-conditional U-ViT (Bao et al. 2023): label, time and image patches are all tokens.

    `depth / 2` blocks, a middle block and `depth / 2` blocks follow each other. A long skip connection leads from the
    i-th block to the i-th block from the end: both inputs are concatenated and mapped to D by a linear layer (section
    3.1 of the paper, the best of the variants compared there).

    Args:
        image_size: height and width of the (latent) image in pixels.
        patch_size: height and width of a patch in pixels; divides `image_size`.
        in_channels: channels of the input and the output image.
        dim: embedding width D, even.
        depth: number of blocks without the middle block, even.
        heads: attention heads; divides `dim`.
        num_classes: number of classes. The label table has one more row, the last, for "no label".
        final_conv: end with a 3x3 convolution over the image, which smooths the borders of patches.
        confidence: condition the network on the confidence of each label.
        bfloat16_stream: under bfloat16 autocast keep the tokens between the blocks, and the normalisation of them, in
            bfloat16, too: half as many bytes move.

    Attributes:
        null_label: the label that means "no label" (`num_classes`).
        recompute: checkpoint activations: the backward pass computes those of the blocks a second time, which
            saves memory. False by default.

    Raises:
        ValueError: a size does not divide another, or is odd where it must be even.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        in_channels: int,
        dim: int,
        depth: int,
        heads: int,
        num_classes: int,
        final_conv: bool = True,
        confidence: bool = False,
        bfloat16_stream: bool = False,
    ):
        super().__init__()
        self.bfloat16_stream = bfloat16_stream
        if image_size % patch_size:
            raise ValueError(f"patch_size must divide image_size: got patch_size={patch_size}, image_size={image_size}")
        if dim % heads:
            raise ValueError(f"heads must divide dim: got heads={heads}, dim={dim}")
        if dim % 2:
            raise ValueError(f"dim must be even, for the cosine and sine halves of the time token: got dim={dim}")
        if depth % 2 or depth < 0:
            raise ValueError(f"depth must be even, half before and half after the middle block: got depth={depth}")
        self.image_shape = (in_channels, image_size, image_size)
        self.patch_size = patch_size
        self.dim = dim
        self.null_label = num_classes
        self.recompute = False

        num_patches = (image_size // patch_size) ** 2
        self.patch_embedding = nn.Conv2d(in_channels, dim, kernel_size=patch_size, stride=patch_size)
        self.label_embedding = nn.Embedding(num_classes + 1, dim)
        self.confidence_embedding = ConfidenceEmbedding(dim, sinusoidal_embedding, num_classes) if confidence else None
        self.positions = nn.Parameter(torch.zeros(1, NUM_EXTRA_TOKENS + num_patches, dim))
        self.in_blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth // 2))
        self.mid_block = Block(dim, heads)
        self.merges = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in range(depth // 2))
        self.out_blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth // 2))
        self.norm = StreamNorm(dim)
        self.to_pixels = nn.Linear(dim, patch_size**2 * in_channels)
        self.final_conv = nn.Conv2d(in_channels, in_channels, kernel_size=3, padding=1) if final_conv else nn.Identity()
        self._initialise()

    def _initialise(self) -> None:
        """Truncated normal of standard deviation 0.02 for linear layers and positions; torch's defaults otherwise."""
        nn.init.trunc_normal_(self.positions, std=0.02)
        initialise_linear(self)
        if self.confidence_embedding is not None:
            self.confidence_embedding.reset()

    def blocks(self) -> list[nn.Module]:
        """Return the blocks in the order of the forward pass; they hold nearly all weights."""
        return [*self.in_blocks, self.mid_block, *self.out_blocks]

    def mixed_labels(self, held: Mapping[str, Tensor], mixtures: LabelMixtures) -> dict[str, Tensor]:
        """See `DenoiserNetwork`; the null label stays what it is in the other network."""
        name = "label_embedding.weight"
        rows = mixtures.mixed(held[name][:-1], self.label_embedding.weight.detach()[:-1])
        return {name: torch.cat([rows, held[name][-1:]])}

    def forward(self, x: Tensor, time: Tensor, label: Tensor, *, confidence: Tensor | None = None) -> Tensor:
        """Map noisy images to the network's prediction (noise, for a variance-preserving process).

        Args:
            x: (B, in_channels, image_size, image_size), any float dtype.
            time: (B,) float, the network's input for the noise level, about 0 to 999; see `Coefficients.time`.
            label: (B,) int64 in [0, num_classes]; `null_label` means "no label".
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
        tokens = self._embed(x, time, label, confidence)
        if self.bfloat16_stream and torch.is_autocast_enabled(x.device.type):
            tokens = tokens.to(torch.bfloat16)
        skips = []
        for block in self.in_blocks:
            tokens = run_block(block, tokens, recompute=self.recompute)
            skips.append(tokens)
        tokens = run_block(self.mid_block, tokens, recompute=self.recompute)
        for merge, block in zip(self.merges, self.out_blocks, strict=True):
            tokens = merge(torch.cat([tokens, skips.pop()], dim=2))
            tokens = run_block(block, tokens, recompute=self.recompute)
        return self.final_conv(self._unpatchify(self.to_pixels(self.norm(tokens))))

    def _embed(self, x: Tensor, time: Tensor, label: Tensor, confidence: Tensor | None) -> Tensor:
        """Return the tokens [label, time, patches], (B, N, D), with position embeddings added."""
        patches = self.patch_embedding(x).flatten(2).transpose(1, 2)
        label_token = self.label_embedding(label)[:, None]
        if self.confidence_embedding is not None:
            label_token = label_token + self.confidence_embedding(label, confidence)[:, None]
        time_token = sinusoidal_embedding(time, self.dim)[:, None].to(label_token.dtype)
        return torch.cat([label_token, time_token, patches], dim=1) + self.positions

    def _unpatchify(self, tokens: Tensor) -> Tensor:
        """Drop the extra tokens and arrange the patches of P x P pixels: (B, N, P * P * C) -> (B, C, H, W)."""
        channels, height, _ = self.image_shape
        side = height // self.patch_size
        patches = tokens[:, NUM_EXTRA_TOKENS:].unflatten(2, (self.patch_size, self.patch_size, channels))
        # (B, rows, columns, P, P, C) -> (B, C, rows, P, columns, P)
        return patches.unflatten(1, (side, side)).permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
