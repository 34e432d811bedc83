"""Decoding of a generator's latents with the autoencoder that it was trained with."""

import torch

from dpt_ray.config.generator_section import LatentsConfig
from dpt_ray.core.diffusion.latent_moments import LatentScale
from dpt_ray.core.weights import LatentDescription, LatentEntry
from dpt_ray.errors import UserError
from dpt_ray.networks.pretrained.autoencoders import FoundAutoencoder, check_same, find_autoencoder, open_autoencoder


def latent_description(found: FoundAutoencoder, config: LatentsConfig) -> LatentEntry:
    """Return the entry `latents` of a generator's description: autoencoder, precision and scaling."""
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


class LatentDecoder:
    """Decodes a generator's latents to images.

    Args:
        described: `latents` in the generator's description.
        latents: location of the autoencoder and expected scale; those in the description where they are None.
        device: device of the autoencoder.
        batch: latents that are decoded at once; see `Autoencoder`.
        where: the generator's file, for messages.

    Raises:
        UserError: the autoencoder or the scale differs from those in training.
    """

    def __init__(
        self, described: LatentDescription, latents: LatentsConfig, device: str, batch: int | None, where: str
    ):
        found = find_autoencoder(latents.autoencoder or described["location"])
        check_same(found, described["autoencoder"], f"{where} was trained on latents")
        if latents.scale is not None and latents.scale != described["scale"]:
            raise UserError(
                f"{where} was trained on latents scaled by {described['scale']:g}, not {latents.scale:g}",
                where="stage2.latents.scale",
                fix=f"set it to {described['scale']:g}, or train a generator with the other scale",
            )
        self._form = found.form
        self._scale = LatentScale(described["scale"], described["shift"])
        self._autoencoder = open_autoencoder(found, precision=described["precision"], batch=batch, device=device)

    def image_shape(self, latent_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the shape (C, H, W) of the image of a latent of shape (c, h, w)."""
        _, height, width = latent_shape
        return self._form.image_channels, height * self._form.downsampling, width * self._form.downsampling

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode scaled latents (B, c, h, w) to images (B, C, H, W) in [-1, 1].

        Raises:
            ValueError: the latents have NaN or infinite values.
        """
        if not torch.isfinite(latents).all():
            raise ValueError("latents have NaN or infinite values: the generator that made them has diverged")
        return self._autoencoder.decode(self._scale.undo(latents))


def open_decoder(
    url: str, described: LatentDescription | None, latents: LatentsConfig | None, device: str, batch: int | None
) -> LatentDecoder | None:
    """Return the decoder of a generator's latents; None for a generator of pixels.

    Args:
        url: the generator's file, for messages.
        described: `latents` in the generator's description; None for a generator of pixels.
        latents: settings that may name another location of the same autoencoder.
        device: device of the autoencoder.
        batch: latents that are decoded at once; see `Autoencoder`.

    Raises:
        UserError: an autoencoder is given for a generator of pixels, or the autoencoder or scale differs from those in
            training.
    """
    if described is not None:
        return LatentDecoder(described, latents or LatentsConfig(), device, batch, url)
    if latents is not None and latents.autoencoder is not None:
        raise UserError("was trained on pixels, not on latents", where=url, fix="set stage2.latents.autoencoder=null")
    return None
