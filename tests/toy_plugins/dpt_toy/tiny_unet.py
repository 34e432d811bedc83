"""A denoiser: three convolutions, with time and label added between them, and a skip connection."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpt_ray.config.generator_section import GeneratorModelConfig
from dpt_ray.config.section import Count
from dpt_ray.core.models.base_networks import DenoiserNetwork
from dpt_ray.core.models.uvit import sinusoidal_embedding


class TinyUnetConfig(GeneratorModelConfig):
    """The settings of `stage2.model` with `name: tiny_unet`."""

    hidden: Count = 16
    """Channels of the inner convolutions, an even number."""

    def check_image_size(self, size: int, name: str = "data.image_size") -> None:
        """Raise ValueError where the network cannot take images of `size` pixels; `name` is the setting with it."""
        if size % 2:
            raise ValueError(f"stage2.model.name=tiny_unet halves images: 2 must divide {name}, not {size}")

    def build(self, *, image_size: int, channels: int, num_classes: int, confidence: bool) -> DenoiserNetwork:
        """Return the network; a ValueError says in one line what it cannot be."""
        if confidence:
            raise ValueError("it takes no confidence; set stage2.conditioning.confidence=false")
        return TinyUnet(self.hidden, channels, num_classes)


class TinyUnet(DenoiserNetwork):
    """Noisy images (B, C, H, W), times (B,) and labels (B,) to (B, C, H, W)."""

    def __init__(self, hidden: int, channels: int, num_classes: int):
        super().__init__()
        self.first = nn.Conv2d(channels, hidden, 3, padding=1)
        self.labels = nn.Embedding(num_classes + 1, hidden)  # the last one means "no label"
        self.down = nn.Conv2d(hidden, hidden, 3, stride=2, padding=1)
        self.last = nn.Conv2d(2 * hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """Return what the process says that the network predicts."""
        told = self.labels(label) + sinusoidal_embedding(time, self.labels.embedding_dim)
        wide = functional.silu(self.first(x) + told[:, :, None, None])
        coarse = functional.silu(self.down(wide))
        return self.last(torch.cat([wide, functional.interpolate(coarse, scale_factor=2.0)], dim=1))
