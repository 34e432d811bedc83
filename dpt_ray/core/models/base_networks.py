"""What every classifier and every denoiser has; those of plug-ins derive from these classes, too."""

from collections.abc import Sequence

from torch import Tensor, nn


class ClassifierNetwork(nn.Module):
    """Images of any size to logits, in two parts.

    Attributes:
        head: features (B, D) to logits (B, num_classes).
    """

    head: nn.Module

    def features(self, x_BCHW: Tensor) -> Tensor:
        """Return features (B, D) of normalised float images."""
        raise NotImplementedError

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, num_classes) of normalised float images."""
        return self.head(self.features(x_BCHW))


class DenoiserNetwork(nn.Module):
    """The network of a generator: `forward(x, time, label)` maps (B, C, H, W) to the same shape.

    `time` is (B,), float, what the process says of the noise level; `label` is (B,), int64, and the label
    `num_classes` means "no label". A network that is built with `confidence` also takes the argument `confidence`:
    (B,), float in [0, 1], or None where every label is certain.

    Attributes:
        recompute: compute the activations of blocks again in the backward pass instead of keeping them. A network may
            ignore it.
    """

    recompute: bool = False

    def blocks(self) -> Sequence[nn.Module]:
        """Return the blocks that hold nearly all weights, whose weights sharded training gathers one at a time."""
        return ()
