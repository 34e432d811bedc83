"""Base classes of classifier and denoiser networks, built-in ones and those of plug-ins."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from dpt_ray.core.label_mixtures import LabelMixtures


class ClassifierNetwork(nn.Module):
    """A classifier, which maps normalised images to features, and features to logits.

    Attributes:
        head: maps features (B, D) to logits (B, num_classes).
    """

    head: nn.Module

    def features(self, x_BCHW: Tensor) -> Tensor:
        """Return features (B, D) of normalised float images (B, C, H, W)."""
        raise NotImplementedError

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, num_classes) of normalised float images (B, C, H, W)."""
        return self.head(self.features(x_BCHW))


class DenoiserNetwork(nn.Module):
    """The network of a generator: `forward(x, time, label)` maps (B, C, H, W) to the same shape.

    `time` is (B,) float, the input for the noise level (`Coefficients.time`). `label` is (B,) int64; the label
    `num_classes` means "no label". A network that is built with `confidence` also takes the argument `confidence`:
    (B,) float in [0, 1], the confidence of each label, or None if all labels are certain.

    Attributes:
        recompute: checkpoint activations: the backward pass recomputes those of the blocks instead of keeping them. A
            network may ignore it.
    """

    recompute: bool = False

    def blocks(self) -> Sequence[nn.Module]:
        """Return the blocks, which hold nearly all weights; sharded training gathers the weights of one at a time."""
        return ()

    def mixed_labels(self, held: Mapping[str, Tensor], mixtures: LabelMixtures) -> dict[str, Tensor]:
        """Return this network's weights of labels, as mixtures of the labels of another network of its kind.

        Those that are left out keep their values, so a network may ignore it.

        Args:
            held: all weights of the other network.
            mixtures: how many images have each pair of labels.
        """
        return {}
