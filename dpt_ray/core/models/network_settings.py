"""From settings to networks."""

from collections.abc import Sequence

from dpt_ray.config.schema import (
    ClassifierModelConfig,
    GeneratorConfig,
)
from dpt_ray.core.diffusion.edm_augmentation import NUM_CONDITIONS
from dpt_ray.core.models.ddpmpp import DdpmPlusPlus
from dpt_ray.core.models.small_cnn import SmallCnn
from dpt_ray.core.models.uvit import UViT
from dpt_ray.core.models.wide_resnet import WideResNet


def build_classifier(config: ClassifierModelConfig, *, channels: int, num_classes: int) -> WideResNet | SmallCnn:
    """Return a classifier with `features(x)` (B, D) and logits (B, num_classes)."""
    if config.name == "wide_resnet":
        return WideResNet(config.depth, config.width, channels, num_classes, config.form)
    return SmallCnn(channels, num_classes, config.width)


def build_generator(
    config: GeneratorConfig, *, image_size: int, channels: int, num_classes: int
) -> UViT | DdpmPlusPlus:
    """Return the network of a class-conditional generator; its label `num_classes` is the null label."""
    model = config.model
    if model.name == "ddpmpp":
        return DdpmPlusPlus(
            image_size=image_size,
            in_channels=channels,
            num_classes=num_classes,
            channels=model.channels,
            multipliers=model.multipliers,
            blocks=model.blocks,
            attention_sizes=model.attention_sizes,
            dropout=model.dropout,
            augmentation_dim=NUM_CONDITIONS if config.augmentation > 0 else 0,
            confidence=config.conditioning.confidence,
        )
    return UViT(
        image_size=image_size,
        patch_size=model.patch_size,
        in_channels=channels,
        dim=model.dim,
        depth=model.depth,
        heads=model.heads,
        num_classes=num_classes,
        final_conv=model.final_conv,
        confidence=config.conditioning.confidence,
    )


def channel_statistics(config: ClassifierModelConfig, channels: int) -> tuple[Sequence[float], Sequence[float]]:
    """Return the channel means and deviations that a classifier's input is normalised by."""
    return _per_channel(config.mean, channels), _per_channel(config.std, channels)


def _per_channel(values: Sequence[float], channels: int) -> Sequence[float]:
    return list(values) * channels if len(values) == 1 else values
