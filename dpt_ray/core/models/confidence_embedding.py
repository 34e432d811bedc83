"""Conditioning of a network on the confidence of a label."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

CERTAIN = 1.0
"""Confidence of a known label. Pseudo images are sampled with it, too."""

SCALE = 1000
"""Factor that maps confidence to [0, 1000], the range for which the sinusoidal embeddings are designed."""


class ConfidenceEmbedding(nn.Module):
    """An embedding of the confidence, which is added to the embedding of the label.

    It is zero at the start of training, and always for the null label, which has no confidence.

    Args:
        dim: width of the embedding.
        embed: sinusoidal embedding: maps (B,) numbers and a width to (B, width).
        null_label: the label that means "no label".
    """

    def __init__(self, dim: int, embed: Callable[[Tensor, int], Tensor], null_label: int):
        super().__init__()
        self.projection = nn.Linear(dim, dim)
        self._embed, self._null_label = embed, null_label
        self.reset()

    def reset(self) -> None:
        """Set the weights to zero, so that the embedding is zero."""
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, label: Tensor, confidence: Tensor | None) -> Tensor:
        """Return embeddings (B, dim) of labels (B,) with confidence (B,) in [0, 1]; `CERTAIN` for all if None."""
        if confidence is None:
            confidence = torch.full_like(label, CERTAIN, dtype=torch.float32)
        waves = self._embed(confidence * SCALE, self.projection.in_features).to(self.projection.weight.dtype)
        return self.projection(waves) * (label != self._null_label)[:, None]
