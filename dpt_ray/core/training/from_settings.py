"""Factories of trainings: a network with objective, optimizer and averages, as the settings describe them."""

import math
from typing import cast

import torch
from torch import nn

from dpt_ray.config.classifier_section import AugmentationConfig, ClassifierConfig
from dpt_ray.config.effects import unread_settings
from dpt_ray.config.encoder_section import EncoderConfig
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.core.diffusion.denoising_objective import DiffusionObjective
from dpt_ray.core.diffusion.edm_augmentation import Augmentation
from dpt_ray.core.diffusion.latent_moments import LatentDraw
from dpt_ray.core.diffusion.process_settings import build_process, build_weighting
from dpt_ray.core.models.network_settings import build_classifier, build_generator, channel_statistics
from dpt_ray.core.objective import Objective
from dpt_ray.core.seeds import derive_seed
from dpt_ray.core.self_supervised.methods import method_class
from dpt_ray.core.self_supervised.network import JointEmbedding
from dpt_ray.core.semi_supervised.algorithm import Task
from dpt_ray.core.semi_supervised.algorithms import algorithm_class, algorithm_settings
from dpt_ray.core.semi_supervised.classification_objective import SemiSupervised
from dpt_ray.core.semi_supervised.weak_strong_augmentation import Strong, Weak
from dpt_ray.core.training.ema import Ema, HalfLife, Rising
from dpt_ray.core.training.optim import build_optimizer
from dpt_ray.core.training.power_ema import TRACKED, PowerEma
from dpt_ray.core.training.state import TrainState


def classifier_training(
    config: ClassifierConfig,
    *,
    channels: int,
    num_classes: int,
    num_unlabelled: int = 0,
    num_real: int | None = None,
    seed: int,
) -> TrainState:
    """Return a semi-supervised training before its first step; initial weights are a function of `seed`.

    Args:
        config: the section of the stage.
        channels: number of channels of the images.
        num_classes: number of classes, C.
        num_unlabelled: number of images of the source "unlabelled"; some algorithms keep a statistic for each.
        num_real: number of real images in the source "labelled", which precede its pseudo images; None if it has no
            pseudo images.
        seed: the run's seed.

    Raises:
        UserError: an unknown algorithm or setting of it.
    """
    torch.manual_seed(derive_seed("classifier", config.seed, seed))
    model = build_classifier(config.model, channels=channels, num_classes=num_classes)
    task = Task(num_classes, num_unlabelled, math.ceil(config.images / images_per_step(config)))
    return _training(model, _classifier_objective(config, channels, task, num_real), config, config.ema_decay)


def images_per_step(config: ClassifierConfig) -> int:
    """Return the number of labelled and unlabelled images in a training step, over all workers."""
    return config.labelled_batch + (config.unlabelled_batch if uses_unlabelled(config) else 0)


def uses_unlabelled(config: ClassifierConfig) -> bool:
    """Return whether the algorithm uses unlabelled images."""
    return algorithm_class(config.algorithm.name).consistency_view != "none"


def _classifier_objective(config: ClassifierConfig, channels: int, task: Task, num_real: int | None) -> SemiSupervised:
    weak = Weak(config.augmentation.flip, config.augmentation.crop_padding)
    algorithm = algorithm_class(config.algorithm.name)(algorithm_settings(config.algorithm), task)
    return SemiSupervised(
        algorithm,
        *channel_statistics(config.model, channels),
        weak,
        strong_augmentation(config.augmentation, weak, channels),
        num_real=num_real,
        pseudo_weight=config.mixing.pseudo_weight,
        separate_statistics=config.mixing.separate_statistics,
    )


def strong_augmentation(config: AugmentationConfig, weak: Weak, channels: int) -> Strong:
    """Return the strong augmentation that `config` describes."""
    fill = None if config.cutout_fill is None else (config.cutout_fill,) * channels
    return Strong(weak, num_operations=config.strong_operations, cutout=config.cutout, cutout_fill=fill)


def generator_training(
    config: GeneratorConfig,
    *,
    image_size: int,
    channels: int,
    num_classes: int,
    seed: int,
    recompute_activations: bool = False,
    latents: LatentDraw | None = None,
) -> TrainState:
    """Return a generator's training before its first step; initial weights are a function of `seed`.

    Args:
        config: the section of the stage.
        image_size: height and width of the network's input.
        channels: number of channels of the network's input.
        num_classes: number of classes, C.
        seed: the run's seed.
        recompute_activations: use activation checkpointing; see `UViT.recompute`.
        latents: draws latents from stored moments; None for a generator of pixels.
    """
    torch.manual_seed(derive_seed("generator", config.seed, seed))
    model = build_generator(config, image_size=image_size, channels=channels, num_classes=num_classes)
    model.recompute = recompute_activations
    objective = DiffusionObjective(
        build_process(config),
        null_label=num_classes * config.conditioning.clusters,
        label_dropout=config.label_dropout,
        horizontal_flip=config.flip,
        augmentation=Augmentation(config.augmentation, config.flip) if config.augmentation > 0 else None,
        dropout=config.model.dropout > 0 and "dropout" not in unread_settings(config.model),
        weighting=build_weighting(config),
        latents=latents,
        confidence=config.conditioning.confidence,
        drawn_labels=config.conditioning.labels == "drawn",
    )
    state = _training(model, objective, config, _generator_decay(config))
    if config.ema_snapshots:
        state.power_averages = tuple(PowerEma(model, width) for width in TRACKED)
    return state


def encoder_training(config: EncoderConfig, *, image_size: int, channels: int, seed: int) -> TrainState:
    """Return the training of an encoder before its first step; initial weights are a function of `seed`.

    Args:
        config: the section `stage0`.
        image_size: height and width of the images in pixels.
        channels: number of channels of the images.
        seed: the run's seed.
    """
    torch.manual_seed(derive_seed("encoder", config.seed, seed))
    encoder = build_classifier(config.model, channels=channels, num_classes=1)
    method = method_class(config.method)(config, channels)
    with torch.no_grad():
        features = encoder.eval().features(torch.zeros(1, channels, image_size, image_size))
    model = method.build_network(encoder.train(), features.shape[1])
    decay = Rising(config.ema_decay, config.images) if config.method == "msn" else config.ema_decay
    state = _training(model, method, config, decay)
    method.follow(model, cast(JointEmbedding, state.ema.model))
    return state


def _generator_decay(config: GeneratorConfig) -> float | HalfLife:
    if config.ema_half_life is None:
        return config.ema_decay
    return HalfLife(config.ema_half_life, config.batch, config.ema_ramp)


def _training(
    model: nn.Module,
    objective: Objective,
    config: ClassifierConfig | EncoderConfig | GeneratorConfig,
    decay: float | HalfLife | Rising,
) -> TrainState:
    return TrainState(model, Ema(model, decay), build_optimizer(model, config.optimizer), objective)
