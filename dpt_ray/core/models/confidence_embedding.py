"""Telling a network how confident a label is."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

CERTAIN = 1.0
"""The confidence of a label that is known, and of what pseudo images are asked for."""

SCALE = 1000
"""Embeddings of noise levels are made for numbers up to about so much."""


class ConfidenceEmbedding(nn.Module):
    """A vector that is added to a label's, zero at the start of training and for "no label", of which nothing is sure.

    Args:
        dim: its width.
        embed: maps (B,) numbers and a width to (B, width) waves.
        null_label: the label that means "no label".
    """

    def __init__(self, dim: int, embed: Callable[[Tensor, int], Tensor], null_label: int):
        super().__init__()
        self.projection = nn.Linear(dim, dim)
        self._embed, self._null_label = embed, null_label
        self.reset()

    def reset(self) -> None:
        """Make it add nothing."""
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, label: Tensor, confidence: Tensor | None) -> Tensor:
        """Return (B, dim) for labels (B,) and their confidence (B,) in [0, 1]; all are certain if it is None."""
        if confidence is None:
            confidence = torch.full_like(label, CERTAIN, dtype=torch.float32)
        waves = self._embed(confidence * SCALE, self.projection.in_features).to(self.projection.weight.dtype)
        return self.projection(waves) * (label != self._null_label)[:, None]
