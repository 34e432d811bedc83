"""Trained networks as files: a classifier that labels images and a generator that draws them, without Ray."""

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from dpt_ray.config.schema import (
    ClassifierModelConfig,
    GeneratorConfig,
    LatentsConfig,
    ProbeConfig,
    SamplingConfig,
)
from dpt_ray.core.build import (
    build_classifier,
    build_generator,
    build_guidance,
    build_process,
    channel_statistics,
)
from dpt_ray.core.diffusion.denoiser import Denoiser
from dpt_ray.core.diffusion.latents import LatentScale
from dpt_ray.core.diffusion.samplers import sample, to_uint8
from dpt_ray.core.models.encoders import FrozenEncoder
from dpt_ray.core.models.graphs import ClassifierGraph, ProbeGraph
from dpt_ray.core.models.misfits import misfits
from dpt_ray.core.models.pretrained import check_repetitions, one_line
from dpt_ray.core.models.small_cnn import SmallCnn
from dpt_ray.core.models.weights import load_network, save_network
from dpt_ray.core.models.wide_resnet import WideResNet
from dpt_ray.core.probe.features import normalise_rows
from dpt_ray.core.random import RowRandom, derive_seed
from dpt_ray.core.semi_supervised.augmentation import normalise
from dpt_ray.core.training.compute import compile_network, in_precision
from dpt_ray.core.training.state import TrainState
from dpt_ray.data import stores
from dpt_ray.data.autoencoders import FoundAutoencoder, check_same, find_autoencoder, open_autoencoder
from dpt_ray.data.encoders import open_encoder
from dpt_ray.data.shards import sha256
from dpt_ray.data.snapshots import averaged_weights, early_weights
from dpt_ray.errors import UserError

NETWORK_FILE = "network.safetensors"
"""The trained network in a training step's artifact."""

RUN_SETTINGS = frozenset({"per_class", "images_per_shard", "ema_width"})
"""Settings of `sampling` that belong to a run; the others say how a generator, wherever it is, draws an image."""

_USUAL_GUIDANCE = 10.0
"""Larger guidance scales can drive the images of a sound generator out of every range."""

_LARGEST_SIDE = 8000
"""Pixels on a side of the largest images that a generator may claim to draw: those that are read at most."""
_LONGEST_KIND = 40
"""Characters of what a file says that it is."""

_FIRST_FORM = {"form": "preactivation"}
"""The form of a wide residual network in a file that names none: such files are older than the setting."""


def classifier_file(config: ClassifierModelConfig, channels: int, num_classes: int, state: TrainState) -> bytes:
    """Return the file of a trained classifier: its averaged weights."""
    form = {"channels": channels, "num_classes": num_classes}
    return save_network(state.ema.model, {"kind": "classifier", "model": config.model_dump(mode="json"), **form})


def generator_file(config: GeneratorConfig, form: dict[str, Any], state: TrainState) -> bytes:
    """Return the file of a trained generator: its averaged weights.

    Args:
        config: its settings.
        form: image_size, channels, num_classes, and what `latent_description` says if it draws latents.
        state: its training.
    """
    settings = config.model_dump(mode="json", exclude={"latents"})
    return save_network(state.ema.model, {"kind": "generator", "config": settings, **form})


def latent_description(found: FoundAutoencoder, config: LatentsConfig) -> dict[str, Any]:
    """Return what a generator's file says of the latents that it draws."""
    scale = found.scale(config)
    return {
        "latents": {
            "location": found.location,
            "autoencoder": found.checksum,
            "precision": config.precision,
            "scale": scale.factor,
            "shift": scale.shift,
        }
    }


def probe_file(probe: ProbeConfig, num_classes: int, temperature: float, weight: torch.Tensor) -> bytes:
    """Return the file of a fitted linear probe: its weight (C, D), and what features it is for."""
    head = nn.Linear(weight.shape[1], num_classes, bias=False)
    head.load_state_dict({"weight": weight.float()})
    description = {
        "kind": "probe",
        "probe": probe.model_dump(mode="json"),
        "num_features": weight.shape[1],
        "num_classes": num_classes,
        "temperature": temperature,
    }
    return save_network(head, description)


class Probe:
    """A fitted linear probe.

    Args:
        url: its file.
        device: where it computes.
        encoder: where its encoder is; where it was in training if None.
        checksum: as for `Generator`.

    Raises:
        UserError: the file is damaged or holds something else.
    """

    def __init__(self, url: str, device: str = "cpu", encoder: str | None = None, checksum: str | None = None):
        def build(description: dict[str, Any]) -> nn.Module:
            self.config = ProbeConfig.model_validate(description["probe"])
            self.temperature = float(description["temperature"])
            return nn.Linear(description["num_features"], description["num_classes"], bias=False)

        head, self.description = _load(url, "probe", build, checksum)
        self.head = cast(nn.Linear, head.to(device))
        self._device = device
        self._location = encoder or self.config.encoder
        self._encoder: FrozenEncoder | None = None

    @property
    def encoder(self) -> FrozenEncoder:
        """The encoder, loaded when it is first asked for.

        Raises:
            UserError: it is not where it should be.
        """
        if self._encoder is None:
            config = self.config
            self._encoder = open_encoder(self._location, crop=config.crop, blocks=config.blocks, device=self._device)
        return self._encoder

    def graph(self) -> nn.Module:
        """Return it all as one network: uint8 RGB images (B, 3, resize, resize) to probabilities (B, num_classes)."""
        return ProbeGraph(self.encoder, self.head, self.temperature)

    @torch.inference_mode()
    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Return class probabilities (B, num_classes) of an encoder's features (B, D)."""
        logits = self.head(normalise_rows(features.to(self._device)))
        return (logits / self.temperature).softmax(dim=1).cpu()

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return probabilities (B, num_classes) and features (B, D) of uint8 RGB images, `resize` pixels on a side."""
        features = self.encoder(images).cpu()
        return self.classify(features), features


class Classifier:
    """A trained classifier.

    Args:
        url: its file.
        device: where it computes.
        checksum: as for `Generator`.

    Raises:
        UserError: the file is damaged or holds something else.
    """

    def __init__(self, url: str, device: str = "cpu", checksum: str | None = None):
        def build(description: dict[str, Any]) -> nn.Module:
            config = ClassifierModelConfig.model_validate(_FIRST_FORM | description["model"])
            channels = description["channels"]
            self._statistics = channel_statistics(config, channels)
            self._temperature = float(description.get("temperature", 1.0))
            if not self._temperature > 0:
                raise ValueError(f"temperature {self._temperature:g} is not above 0")
            return build_classifier(config, channels=channels, num_classes=description["num_classes"])

        network, self.description = _load(url, "classifier", build, checksum)
        self.network = cast(SmallCnn | WideResNet, network.eval().to(device))
        self._device = device

    def graph(self) -> nn.Module:
        """Return all of it as one network: uint8 images (B, C, H, W) to probabilities (B, num_classes)."""
        return ClassifierGraph(self.network, *self._statistics, self._temperature)

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class probabilities (B, num_classes) and features (B, D) of uint8 images (B, C, H, W)."""
        features = self.network.features(normalise(images.to(self._device), *self._statistics))
        logits = self.network.head(features).float()
        return (logits / self._temperature).softmax(dim=1).cpu(), features.float().cpu()


class Generator:
    """A trained class-conditional generator.

    Args:
        url: its file.
        device: where it computes.
        ema_width: relative width of a power-function average to use in the place of the file's weights, made of
            the snapshots beside it.
        checksum: SHA-256 that the file's content must have, hexadecimal; not checked if None.
        latents: where the autoencoder is, and with what scale latents are expected, for a generator of latents;
            as its file says when not given.
        decoding_batch: images that the autoencoder decodes together.
        compiled: compile the network, anew for each number of images drawn together.

    Raises:
        UserError: the file is damaged or holds something else, or there are no snapshots beside it, or the autoencoder
            or scale is another one than it was trained with.
    """

    def __init__(
        self,
        url: str,
        device: str = "cpu",
        ema_width: float | None = None,
        checksum: str | None = None,
        latents: LatentsConfig | None = None,
        decoding_batch: int = 16,
        compiled: bool = False,
    ):
        def build(description: dict[str, Any]) -> nn.Module:
            config = GeneratorConfig.model_validate(description["config"])
            form = {name: description[name] for name in ("image_size", "channels", "num_classes")}
            if not 1 <= form["image_size"] <= _LARGEST_SIDE:  # convolutions fit any, so the weights do not tell
                raise ValueError(f"images of {form['image_size']:.9g} pixels on a side")
            self.process = build_process(config)
            self.image_shape = (form["channels"], form["image_size"], form["image_size"])
            self.num_classes = form["num_classes"]
            self.knows_null_label = config.label_dropout > 0
            return build_generator(config, **form)

        network, self.description = _load(url, "generator", build, checksum)
        self._decoder = _decoder(url, self.description.get("latents"), latents, device, decoding_batch)
        if ema_width is not None:
            _take_over(network, averaged_weights(_folder(url), ema_width), _folder(url))
        self.network = network.eval().to(device)
        if compiled:
            compile_network(self.network)
        self._url, self._device = url, device
        self._weak: dict[int, nn.Module] = {}

    @property
    def drawn_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that are drawn; `image_shape` is what the network sees."""
        return self._decoder.image_shape(self.image_shape) if self._decoder else self.image_shape

    @torch.inference_mode()
    def draw(self, config: SamplingConfig, seed: int, wanted: list[tuple[int, int]]) -> torch.Tensor:
        """Draw images; each is a function of the generator, `config`, `seed` and its own entry in `wanted`.

        Args:
            config: sampler, steps and guidance.
            seed: fixes all images.
            wanted: (class id, index in the class) of each image.

        Returns:
            uint8 (len(wanted), C, H, W) on the CPU.

        Raises:
            UserError: guidance of a generator that was trained without label dropout, autoguidance without snapshots
                beside the file, or the images are not finite, as a diverged network makes them.
        """
        classifier_free = config.guidance_method == "classifier_free"
        if config.guidance_scale > 0 and classifier_free and not self.knows_null_label:
            raise UserError(
                "was trained without label dropout, so a guidance scale of "
                f"{config.guidance_scale:g} means nothing to it",
                where=self._url,
                fix="sample with guidance_scale=0, or train with stage2.label_dropout above 0",
            )
        random = RowRandom([derive_seed("pseudo image", seed, *place) for place in wanted], device=self._device)
        labels = torch.tensor([label for label, _ in wanted], device=self._device)
        weak = None if classifier_free else self._denoiser(self._early(config.weak_snapshot), config)
        denoiser = build_guidance(config, self._denoiser(self.network, config), self.num_classes, weak)
        images = sample(
            config.sampler,
            denoiser,
            random.normal(*self.image_shape),
            labels,
            config.steps,
            self.process.sigma_min,
            self.process.sigma_max,
            self.process.schedule,
        )
        try:
            return to_uint8(self._decoder(images) if self._decoder else images).cpu()
        except ValueError as error:
            fix = "train it with a lower learning rate"
            if config.guidance_scale > _USUAL_GUIDANCE:
                fix = f"lower the guidance scale ({config.guidance_scale:g}), or {fix}"
            raise UserError(str(error), where=self._url, fix=fix) from None

    def _denoiser(self, network: nn.Module, config: SamplingConfig) -> Denoiser:
        return self.process.denoiser(in_precision(network, config.precision, torch.device(self._device)))

    def _early(self, number: int) -> nn.Module:
        """Return the network as it was at one of its training's snapshots."""
        if number not in self._weak:
            network = copy.deepcopy(self.network)
            _take_over(network, early_weights(_folder(self._url), number), _folder(self._url))
            self._weak[number] = network
        return self._weak[number]


def network_kind(url: str) -> str:
    """Return what a network's file holds: "classifier", "probe" or "generator".

    Raises:
        UserError: it is damaged or no such file.
    """
    return _read(url)[1]["kind"]


def _folder(url: str) -> str:
    return url.rpartition("/")[0]


def _take_over(network: nn.Module, weights: dict[str, torch.Tensor], folder: str) -> None:
    """Give a network the weights of snapshots in a training's folder."""
    if complaint := misfits(weights, network.state_dict()):
        raise UserError(f"its snapshots are of another network: {complaint}", where=folder)
    network.load_state_dict(weights)


class LatentDecoder:
    """Turns a generator's latents into images.

    Args:
        described: what `latent_description` said when the generator was trained.
        latents: where the autoencoder is, and the expected scale.
        device: where it computes.
        batch: images together.
        where: the generator's file.

    Raises:
        UserError: the autoencoder or the scale is another one.
    """

    def __init__(self, described: dict[str, Any], latents: LatentsConfig, device: str, batch: int, where: str):
        found = find_autoencoder(latents.autoencoder or described["location"])
        check_same(found, described["autoencoder"], f"{where} was trained on latents")
        if latents.scale is not None and latents.scale != described["scale"]:
            raise UserError(
                f"{where} was trained on latents times {described['scale']:g}, not {latents.scale:g}",
                where="stage2.latents.scale",
                fix=f"set it to {described['scale']:g}, or train a generator with the other scale",
            )
        self._form = found.form
        self._scale = LatentScale(described["scale"], described["shift"])
        self._autoencoder = open_autoencoder(found, precision=described["precision"], batch=batch, device=device)

    def image_shape(self, latent_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the shape of the image of a latent."""
        _, height, width = latent_shape
        return self._form.image_channels, height * self._form.downsampling, width * self._form.downsampling

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """Return images in [-1, 1], (B, C, H, W), of scaled latents.

        Raises:
            ValueError: latents are not finite.
        """
        if not torch.isfinite(latents).all():
            raise ValueError("latents have NaN or infinite values: the generator that made them has diverged")
        return self._autoencoder.decode(self._scale.undo(latents))


def _decoder(
    url: str, described: dict[str, Any] | None, latents: LatentsConfig | None, device: str, batch: int
) -> LatentDecoder | None:
    if described is not None:
        return LatentDecoder(described, latents or LatentsConfig(), device, batch, url)
    if latents is not None and latents.autoencoder is not None:
        raise UserError("was trained on pixels, not on latents", where=url, fix="set stage2.latents.autoencoder=null")
    return None


def _load(
    url: str, kind: str, build: Callable[[dict[str, Any]], nn.Module], checksum: str | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the network that a file describes and give it the file's weights; return it and the description."""
    weights, description = _read(url, checksum)
    if description["kind"] != kind:
        held = description["kind"][:_LONGEST_KIND]
        raise UserError(f"holds a {held}, not a {kind}", where=url, fix=f"give the file of a {kind}")
    try:
        check_repetitions(description.get("model") or description.get("config"), len(weights))
        with torch.device("meta"):  # a description of some bytes may ask for gigabytes; here it reserves none
            skeleton = build(description)
        if complaint := misfits(weights, skeleton.state_dict()):
            raise ValueError(complaint)
        network = build(description)
        network.load_state_dict(weights)
    except Exception as error:  # whatever a description that somebody else wrote makes the constructors raise
        raise UserError(f"does not fit its own description ({one_line(error)})", where=url) from error
    return network, description


def _read(url: str, checksum: str | None = None) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    content = stores.read_bytes(url)
    if checksum is not None and sha256(content) != checksum:
        raise UserError("its content is not the one that was exported (checksum)", where=url, fix="copy it again")
    try:
        weights, description = load_network(content)
        if not isinstance(description, dict) or not isinstance(description.get("kind"), str):
            raise ValueError("not a network file: it does not say what it is")
    except ValueError as error:
        raise UserError(str(error), where=url) from error
    return weights, description
