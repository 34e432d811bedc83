"""A generator of images, as a file and ready to sample."""

import copy
from typing import Any

import torch
from torch import nn

from dpt_ray.config.schema import GeneratorConfig, LatentsConfig, SamplingConfig
from dpt_ray.core.diffusion.denoiser import Denoiser
from dpt_ray.core.diffusion.process_settings import build_guidance, build_process
from dpt_ray.core.diffusion.samplers import sample
from dpt_ray.core.models.network_settings import build_generator, stored_settings
from dpt_ray.core.pixels import to_uint8
from dpt_ray.core.row_random import RowRandom, derive_seed
from dpt_ray.core.state_mismatch import describe_mismatch
from dpt_ray.core.training.compute import compile_network, in_precision
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.weights import save_network
from dpt_ray.errors import UserError
from dpt_ray.networks.files import network_folder, open_network
from dpt_ray.networks.latent_decoder import open_decoder
from dpt_ray.networks.snapshots import averaged_weights, early_weights

RUN_SETTINGS = frozenset({"per_class", "images_per_shard", "ema_width"})
"""Settings of `sampling` that belong to a run; the others say how a generator, wherever it is, draws an image."""
_LARGEST_SIDE = 8000
"""Pixels on a side of the largest images that a generator may claim to draw: those that are read at most."""
_USUAL_GUIDANCE = 10.0
"""Larger guidance scales can drive the images of a sound generator out of every range."""


def generator_file(config: GeneratorConfig, form: dict[str, Any], state: TrainState) -> bytes:
    """Return the file of a trained generator: its averaged weights.

    Args:
        config: its settings.
        form: image_size, channels, num_classes, and what `latent_description` says if it draws latents.
        state: its training.
    """
    settings = config.model_dump(mode="json", exclude={"latents"}) | {"model": stored_settings(config.model)}
    return save_network(state.ema.model, {"kind": "generator", "config": settings, **form})


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

        network, self.description = open_network(url, "generator", build, checksum)
        self._decoder = open_decoder(url, self.description.get("latents"), latents, device, decoding_batch)
        if ema_width is not None:
            _take_over(network, averaged_weights(network_folder(url), ema_width), network_folder(url))
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
            _take_over(network, early_weights(network_folder(self._url), number), network_folder(self._url))
            self._weak[number] = network
        return self._weak[number]


def _take_over(network: nn.Module, weights: dict[str, torch.Tensor], folder: str) -> None:
    """Give a network the weights of snapshots in a training's folder."""
    if complaint := describe_mismatch(weights, network.state_dict()):
        raise UserError(f"its snapshots are of another network: {complaint}", where=folder)
    network.load_state_dict(weights)
