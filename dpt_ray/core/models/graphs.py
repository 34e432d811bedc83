"""Classifiers as single modules from pixels to probabilities, for runtimes such as ONNX that run only a graph."""

from collections.abc import Sequence

from torch import Tensor, nn

from dpt_ray.core.pixels import normalise
from dpt_ray.core.probe.normalisation import normalise_rows


class ClassifierGraph(nn.Module):
    """Maps uint8 images (B, C, H, W) to class probabilities, float32 (B, num_classes).

    Args:
        network: maps normalised images to logits.
        mean: channel means of images in [0, 1].
        std: channel standard deviations of images in [0, 1].
        temperature: divides the logits.
    """

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float], temperature: float):
        super().__init__()
        self.network, self.mean, self.std, self.temperature = network, mean, std, temperature

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(normalise(images, self.mean, self.std)).float()
        return (logits / self.temperature).softmax(dim=1)


class ProbeGraph(nn.Module):
    """Maps uint8 RGB images (B, 3, H, W) to class probabilities, float32 (B, num_classes).

    H and W are at least the encoder's crop.

    Args:
        encoder: maps images to the features of their centre crops.
        head: maps normalised features to logits.
        temperature: divides the logits.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, temperature: float):
        super().__init__()
        self.encoder, self.head, self.temperature = encoder, head, temperature

    def forward(self, images: Tensor) -> Tensor:
        logits = self.head(normalise_rows(self.encoder(images)))
        return (logits / self.temperature).softmax(dim=1)
