"""Weights of a trained network with which another training starts (`stage1.from`, `stage2.from`, `stage3.from`)."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dpt_ray.config.classifier_section import ClassifierModelConfig
from dpt_ray.config.data_section import MAX_CLASSES
from dpt_ray.config.effects import read_settings
from dpt_ray.config.generator_section import GeneratorConfig, GeneratorModelConfig
from dpt_ray.core.label_mixtures import LabelMixtures
from dpt_ray.core.models.base_networks import DenoiserNetwork
from dpt_ray.core.models.network_settings import build_classifier, build_generator, channel_statistics
from dpt_ray.core.state_mismatch import describe_mismatch
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.weights import Description, load_network
from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.networks.classifier import described_model
from dpt_ray.networks.pretrained.autoencoders import FoundAutoencoder, check_same
from dpt_ray.networks.torch_files import PICKLES
from dpt_ray.text import one_line, shortened

_TRAINING_ONLY = frozenset({"dropout"})
"""Settings of a network that change its training and not its function."""


@dataclass(frozen=True)
class FoundWeights:
    """The file of a trained network, of which nothing but the description is kept in memory.

    Attributes:
        url: the file.
        checksum: SHA-256 of its content, hexadecimal.
        description: what the network is.
        shapes: name -> a tensor of the weight's shape, without memory.
        num_classes: number of its classes.
    """

    url: str
    checksum: str
    description: Description
    shapes: Mapping[str, Tensor]
    num_classes: int


def find_weights(url: str, kind: str) -> FoundWeights:
    """Read the file of a trained network.

    Args:
        url: the file.
        kind: "classifier" or "generator".

    Raises:
        UserError: it cannot be read, is a pickle or another file, or holds another kind of network.
    """
    content = stores.read_bytes(url)
    try:
        weights, description = load_network(content)
        held = description.get("kind") if isinstance(description, dict) else None
        if not isinstance(held, str):
            raise ValueError("not a network file: its metadata name no kind of network")
    except ValueError as error:
        if content.startswith(PICKLES):  # only now: the length of a header may begin with the same bytes
            fix = "'dpt export import-uvit' imports the tensors of an official U-ViT" if kind == "generator" else None
            raise UserError("is a pickle (a torch file), which is not loaded", where=url, fix=fix) from None
        raise UserError(str(error), where=url, fix=f"give the file of a {kind}, an export or a run") from None
    if held != kind:
        raise UserError(f"holds a {shortened(held, 40)}, not a {kind}", where=url, fix=f"give a {kind}")
    num_classes = description.get("num_classes")
    if not isinstance(num_classes, int) or not 1 <= num_classes <= MAX_CLASSES:
        raise UserError("does not say how many classes its network knows", where=url)
    shapes = {name: torch.empty(value.shape, device="meta") for name, value in weights.items()}
    return FoundWeights(url, sha256(content), description, shapes, num_classes)


def check_classifier(found: FoundWeights, model: ClassifierModelConfig, channels: int, stage: str) -> None:
    """Refuse weights that are not those of a stage's network.

    Args:
        found: the weights.
        model: the network.
        channels: number of channels of the images.
        stage: section of the settings, for messages.

    Raises:
        UserError: the network, the channels or a weight's shape differ; the message contains the settings.
    """
    with _described(found):
        theirs = described_model(found.description)
        held = {"data.channels": found.description["channels"], **_network(theirs, f"{stage}.model")}
        held |= _statistics(theirs, found.description["channels"], f"{stage}.model")
    wanted = {"data.channels": channels, **_network(model, f"{stage}.model")}
    wanted |= _statistics(model, channels, f"{stage}.model")
    _check_equal(found, held, wanted)
    _check_shapes(found, lambda: build_classifier(model, channels=channels, num_classes=found.num_classes))


def check_generator(found: FoundWeights, config: GeneratorConfig, size: int, channels: int) -> None:
    """Refuse weights that are not those of stage 2's network.

    Args:
        found: the weights.
        config: the section `stage2`.
        size: side of the images or latents.
        channels: number of their channels.

    Raises:
        UserError: the network, the noise process, the images or a weight's shape differ; the message contains the
            settings.
    """
    form = "latents" if config.in_latents else "images"
    with _described(found):
        theirs = GeneratorConfig.model_validate(found.description["config"])
        held = {
            f"channels of {form}": found.description["channels"],
            f"side of {form}": found.description["image_size"],
            **_generator(theirs),
        }
    if "latents" in found.description and not config.in_latents:
        raise UserError(
            "was trained on latents, not on pixels",
            where=found.url,
            fix="set stage2.latents.autoencoder, or give a generator of pixels",
        )
    _check_equal(found, held, {f"channels of {form}": channels, f"side of {form}": size, **_generator(config)})
    _check_shapes(
        found,
        lambda: build_generator(config, image_size=size, channels=channels, num_classes=found.num_classes),
    )


def check_autoencoder(found: FoundWeights, autoencoder: FoundAutoencoder) -> None:
    """Refuse a generator of another autoencoder's latents. A file that names no autoencoder is not refused.

    Raises:
        UserError: the generator was trained on latents of another autoencoder.
    """
    if described := found.description.get("latents"):
        check_same(autoencoder, described["autoencoder"], f"{found.url} was trained on latents")


def describe_new_classes(found: FoundWeights, num_classes: int) -> str | None:
    """Say which weights are not taken from a file, if the data have another number of classes than its network."""
    if found.num_classes == num_classes:
        return None
    return (
        f"{found.url} knows {found.num_classes:,} classes, the data have {num_classes:,}: the weights that belong to "
        "classes start from random values"
    )


def start_from(
    url: str, checksum: str | None, build: Callable[[], TrainState], mixtures: LabelMixtures | None = None
) -> TrainState:
    """Return a training before its first step whose network and averages have the weights of a file.

    Weights of another shape, which `check_classifier` and `check_generator` allow for classes alone, stay random. So do
    those that the file lacks, which these refuse: a generator that learnt without labels knows no confidence.

    Args:
        url: file of the trained network.
        checksum: SHA-256 of its content, hexadecimal; not checked if None.
        build: returns the training with random weights.
        mixtures: how many images have each pair of a label of the training and a label of the file's generator, from
            which the weights of its labels follow.

    Raises:
        UserError: the file cannot be read, or its content has changed.
    """
    content = stores.read_bytes(url)
    if checksum is not None and sha256(content) != checksum:
        raise UserError("has changed since the job read it", where=url, fix="start the job again")
    weights, _ = load_network(content)
    state = build()
    for network in (state.model, state.ema.model, *(average.model for average in state.power_averages)):
        own = network.state_dict()
        mixed: dict[str, Tensor] = {}
        if mixtures is not None and isinstance(network, DenoiserNetwork):
            mixed = network.mixed_labels(weights, mixtures)
        network.load_state_dict(
            own
            | {
                name: own[name] if name in own and own[name].shape != value.shape else value
                for name, value in weights.items()
            }
            | mixed
        )
    return state


def _network(model: ClassifierModelConfig | GeneratorModelConfig, prefix: str) -> dict[str, object]:
    """Return the settings of a network that its function follows from; those of normalisation are left out."""
    read = read_settings(model)
    return {f"{prefix}.{name}": read[name] for name in read if name not in {*_TRAINING_ONLY, "mean", "std"}}


def _statistics(model: ClassifierModelConfig, channels: int, prefix: str) -> dict[str, object]:
    mean, std = channel_statistics(model, channels)
    return {f"{prefix}.mean": list(mean), f"{prefix}.std": list(std)}


def _generator(config: GeneratorConfig) -> dict[str, object]:
    clusters = {"stage2.conditioning.clusters": config.conditioning.clusters}
    return {**_network(config.model, "stage2.model"), "stage2.process": config.process, **clusters}


@contextmanager
def _described(found: FoundWeights) -> Iterator[None]:
    """Turn the errors of a foreign description into one line."""
    try:
        yield
    except Exception as error:  # the settings of a plug-in's network raise many types
        raise UserError(f"does not describe its network ({one_line(error)})", where=found.url) from error


def _check_equal(found: FoundWeights, held: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    different = [name for name in wanted if held.get(name) != wanted[name]]
    if not different:
        return
    shown = ", ".join(f"{name} {_shown(held.get(name))} and not {_shown(wanted[name])}" for name in different[:3])
    more = f" and {len(different) - 3} more" if len(different) > 3 else ""
    raise UserError(
        f"has {shown}{more}, so training cannot start from it",
        where=found.url,
        fix="give the settings of the weights, or other weights",
    )


def _shown(value: Any) -> str:
    return "none" if value is None else shortened(str(value), 60)


def _check_shapes(found: FoundWeights, build: Callable[[], nn.Module]) -> None:
    """Compare the weights with a network that knows as many classes as they do."""
    with torch.device("meta"):
        network = build()
    if complaint := describe_mismatch(found.shapes, network.state_dict()):
        raise UserError(f"holds other weights than the stage's network: {complaint}", where=found.url)
