"""Builds networks from settings."""

from collections.abc import Sequence
from typing import Any, TypeVar

from dpt_ray.config.classifier_section import ClassifierModelConfig
from dpt_ray.config.effects import unread_settings
from dpt_ray.config.generator_section import GeneratorConfig, GeneratorModelConfig
from dpt_ray.core.diffusion.edm_augmentation import NUM_CONDITIONS
from dpt_ray.core.models.base_networks import ClassifierNetwork, DenoiserNetwork
from dpt_ray.core.models.ddpmpp import DdpmPlusPlus
from dpt_ray.core.models.resnet18 import ResNet18
from dpt_ray.core.models.small_cnn import SmallCnn
from dpt_ray.core.models.uvit import UViT
from dpt_ray.core.models.vision_transformer import VisionTransformer
from dpt_ray.core.models.wide_resnet import WideResNet
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.text import one_line

Network = TypeVar("Network", ClassifierNetwork, DenoiserNetwork)


def build_classifier(config: ClassifierModelConfig, *, channels: int, num_classes: int) -> ClassifierNetwork:
    """Return a classifier with `features(x)` (B, D) and logits (B, num_classes).

    Raises:
        UserError: a plug-in's network cannot be built.
    """
    if _is_of_plugin(config):
        return _of_plugin(config, ClassifierNetwork, channels=channels, num_classes=num_classes)
    if config.name == "wide_resnet":
        return WideResNet(config.depth, config.width, channels, num_classes, config.form)
    if config.name == "resnet18":
        return ResNet18(channels, num_classes, config.width)
    if config.name == "vit":
        return VisionTransformer(
            channels,
            num_classes,
            patch_size=config.patch_size,
            dim=config.dim,
            blocks=config.blocks,
            heads=config.heads,
        )
    return SmallCnn(channels, num_classes, config.width)


def build_generator(config: GeneratorConfig, *, image_size: int, channels: int, num_classes: int) -> DenoiserNetwork:
    """Return the network of a class-conditional generator.

    It has a label for each class, or for each cluster of each class; the next one is the null label.

    Raises:
        UserError: a plug-in's network cannot be built.
    """
    model, confidence = config.model, config.conditioning.confidence
    num_classes *= config.conditioning.clusters
    if _is_of_plugin(model):
        form = {"image_size": image_size, "channels": channels, "num_classes": num_classes}
        return _of_plugin(model, DenoiserNetwork, **form, confidence=confidence)
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
            confidence=confidence,
            space_to_depth=model.space_to_depth,
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
        confidence=confidence,
        bfloat16_stream=model.bfloat16_stream,
    )


def _of_plugin(config: ClassifierModelConfig | GeneratorModelConfig, kind: type[Network], **form: Any) -> Network:
    """Return the network that a plug-in's settings build."""
    build = getattr(config, "build", None)
    if build is None:
        raise UserError(f"the plug-in {config.name!r} has no method `build`", fix="repair, update or remove it")
    try:
        network = build(**form)
    except ValueError as error:  # constructors of networks refuse settings so, built-in ones, too
        raise UserError(f"the plug-in {config.name!r} cannot build its network ({one_line(error)})") from error
    if not isinstance(network, kind):
        raise UserError(f"the network of the plug-in {config.name!r} is no {kind.__module__}.{kind.__name__}")
    return network


def stored_settings(config: ClassifierModelConfig | GeneratorModelConfig) -> JsonObject:
    """Return the settings for the description in a network's file, JSON-like.

    Settings of other classifiers, which a classifier or the network of a plug-in does not read, are left out.
    """
    settings = config.model_dump(mode="json")
    unread = () if type(config) is GeneratorModelConfig else unread_settings(config)
    return {name: value for name, value in settings.items() if name not in unread}


def _is_of_plugin(config: ClassifierModelConfig | GeneratorModelConfig) -> bool:
    return type(config) not in (ClassifierModelConfig, GeneratorModelConfig)


def channel_statistics(config: ClassifierModelConfig, channels: int) -> tuple[Sequence[float], Sequence[float]]:
    """Return the means and standard deviations by which a classifier's input channels are normalised."""
    return _per_channel(config.mean, channels), _per_channel(config.std, channels)


def _per_channel(values: Sequence[float], channels: int) -> Sequence[float]:
    return list(values) * channels if len(values) == 1 else values
