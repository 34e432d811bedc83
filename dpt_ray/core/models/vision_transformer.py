"""Vision transformer that encodes all patches of an image, or some of them.

Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021). Positions are fixed sines and cosines of rows and
columns (Chen et al. 2021, MoCo v3), so that images of any size have them. In the shapes below N is the number of
patches and D the width of a token.
"""

import torch
from torch import Tensor, nn

from dpt_ray.core.models.base_networks import ClassifierNetwork
from dpt_ray.core.models.batch_norm import BatchNorm2d
from dpt_ray.core.models.uvit import Block, initialise_linear, sinusoidal_embedding


class VisionTransformer(ClassifierNetwork):
    """A pre-norm vision transformer with a class token, whose last, standardised state is the feature.

    Most of the class token is the same for all images, so a regularised probe would see little of the rest. A batch
    norm without weights takes it away, as before the linear classifiers of masked autoencoders (He et al. 2022).

    Args:
        in_channels: channels of the images.
        num_classes: number of logits.
        patch_size: height and width of a patch in pixels; pixels beyond whole patches are ignored.
        dim: width D of a token, a multiple of 4.
        blocks: number of blocks.
        heads: attention heads; divides `dim`.

    Raises:
        ValueError: `dim` is no multiple of 4 or of `heads`.
    """

    def __init__(self, in_channels: int, num_classes: int, *, patch_size: int, dim: int, blocks: int, heads: int):
        super().__init__()
        if dim % 4 or dim % heads:
            raise ValueError(f"dim must be a multiple of 4 and of heads={heads}: got {dim}")
        self.patch_size = patch_size
        self.patch_embedding = nn.Conv2d(in_channels, dim, kernel_size=patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.zeros(dim))
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim)
        self.standardise = BatchNorm2d(dim, affine=False)
        self.head = nn.Linear(dim, num_classes)
        self.feature_size = dim
        nn.init.trunc_normal_(self.class_token, std=0.02)
        initialise_linear(self)

    def num_patches(self, size: int) -> int:
        """Return N of square images of `size` pixels."""
        return (size // self.patch_size) ** 2

    def features(self, x_BCHW: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return the standardised last state of the class token, (B, D), of normalised float images (B, C, H, W).

        Args:
            x_BCHW: the images.
            kept: int64 (B, M), indices of the patches that are encoded, in row order; all if None.
        """
        patches = self.patch_embedding(x_BCHW)
        rows, columns = patches.shape[2:]
        tokens = patches.flatten(2).transpose(1, 2) + self._positions(rows, columns, patches)
        if kept is not None:
            tokens = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[2]))
        tokens = torch.cat([self.class_token.to(tokens.dtype).expand(len(tokens), 1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.standardise(self.norm(tokens[:, 0])[..., None, None]).flatten(1)

    def _positions(self, rows: int, columns: int, like: Tensor) -> Tensor:
        """Return the embeddings of the positions of a grid, (rows * columns, D): half for the row, half for the
        column."""
        half = like.shape[1] // 2
        row, column = (sinusoidal_embedding(torch.arange(count, device=like.device), half) for count in (rows, columns))
        grid = torch.cat([row[:, None].expand(-1, columns, -1), column[None].expand(rows, -1, -1)], dim=2)
        return grid.flatten(0, 1).to(like.dtype)
