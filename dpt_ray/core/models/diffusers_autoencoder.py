"""Autoencoders of the diffusers library: images to the moments of latents, and latents to images."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dpt_ray.core.diffusion.latent_moments import LOG_VARIANCE_RANGE
from dpt_ray.core.fitting_batch import ENCODED_ON_CPU, batch_size
from dpt_ray.core.models.pretrained import check_weights
from dpt_ray.errors import UserError
from dpt_ray.text import one_line

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"

FAMILIES = ("AutoencoderKL", "AutoencoderTiny")
"""Supported classes of diffusers. AutoencoderTiny is deterministic: it has no variance."""

_MOST_CHANNELS, _MOST_LEVELS = 4096, 16


@dataclass(frozen=True)
class AutoencoderForm:
    """Shapes and scaling of an autoencoder.

    Attributes:
        family: one of `FAMILIES`.
        image_channels: channels of the images.
        channels: channels of the latents.
        downsampling: side of an image divided by the side of its latent.
        scale: `scaling_factor` in `config.json`.
        shift: `shift_factor` in `config.json`.
    """

    family: str
    image_channels: int
    channels: int
    downsampling: int
    scale: float
    shift: float

    @property
    def has_variance(self) -> bool:
        """Whether the encoder returns a distribution of latents."""
        return self.family == "AutoencoderKL"


def autoencoder_form(config: Mapping[str, Any]) -> AutoencoderForm:
    """Return the form that an autoencoder's `config.json` describes.

    Raises:
        ValueError: it describes no supported autoencoder; the message says why.
    """
    family = config.get("_class_name")
    if family not in FAMILIES:
        raise ValueError(f"describes {str(family or 'no model of diffusers')[:40]}, not {' or '.join(FAMILIES)}")
    if config.get("latents_mean") is not None or config.get("latents_std") is not None:
        raise ValueError("normalises each channel of a latent (latents_mean, latents_std), which is not supported")
    levels = "block_out_channels" if family == "AutoencoderKL" else "encoder_block_out_channels"
    try:
        # diffusers computes 2 ** out_channels, which a huge value would never finish. Some published files omit the
        # key; diffusers then takes 3.
        channels = {"out_channels": 3, **config}
        for name in ("in_channels", "out_channels", "latent_channels"):
            if not 1 <= channels[name] <= _MOST_CHANNELS:
                raise ValueError(f"{name} is {channels[name]!s:.20}")
        if not 1 <= len(config[levels]) <= _MOST_LEVELS:
            raise ValueError(f"{levels} has {len(config[levels])} entries")
        return AutoencoderForm(
            family=family,
            image_channels=int(config["in_channels"]),
            channels=int(config["latent_channels"]),
            downsampling=2 ** (len(config[levels]) - 1),
            scale=float(config.get("scaling_factor") or (0.18215 if family == "AutoencoderKL" else 1.0)),
            shift=float(config.get("shift_factor") or 0.0),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"lacks or has invalid settings of {family} ({one_line(error)})") from None


class Autoencoder(nn.Module):
    """A frozen autoencoder.

    Args:
        folder: a local folder with `config.json` and `diffusion_pytorch_model.safetensors`.
        config: content of `config.json`.
        precision: dtype of the computation; weights, moments and images are float32.
        batch: images that are encoded or decoded at once; None for 16 on a CPU and as many as fit on a GPU.
        where: name of the folder in messages; the folder itself if None.

    Raises:
        UserError: diffusers is missing, or the weights do not match the configuration.
        ValueError: see `autoencoder_form`.
    """

    def __init__(
        self,
        folder: str,
        config: Mapping[str, Any],
        *,
        precision: Literal["float32", "bfloat16"] = "float32",
        batch: int | None = None,
        where: str | None = None,
    ):
        super().__init__()
        self.form = autoencoder_form(config)
        self.model: Any = _load(folder, config, self.form.family, where or folder).eval().requires_grad_(False)
        self._precision, self._batch = precision, batch
        self._found: dict[str, int] = {}

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Return the moments of images.

        Args:
            images: (B, image_channels, H, W) float32 in [-1, 1], on any device.

        Returns:
            (B, 2 channels, H / downsampling, W / downsampling) float32 on the CPU: means, then log-variances. A family
            without variance returns the means only, (B, channels, ...).
        """
        return self._in_batches(self._encode, images)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode unscaled latents (B, channels, h, w) to images.

        Returns:
            (B, image_channels, h * downsampling, w * downsampling) float32 on the CPU, nominally in [-1, 1].
        """
        return self._in_batches(self._decode, latents)

    def _in_batches(self, function: Callable[[Tensor], Tensor], tensors: Tensor) -> Tensor:
        """Return the function's values for tensors (B, ...), on the CPU."""
        key = f"{function.__name__} {tuple(tensors.shape[1:])}"
        if key not in self._found:
            one = tensors[:1].to(self._device)
            run = lambda batch: function(one.expand(batch, *one.shape[1:]))  # noqa: E731
            self._found[key] = batch_size(self._batch, ENCODED_ON_CPU, run, self._device)
        parts = tensors.split(self._found[key])
        return torch.cat([function(part.to(self._device)).float().cpu() for part in parts])

    def _encode(self, images: Tensor) -> Tensor:
        with self._autocast():
            encoded = self.model.encode(images)
        if not self.form.has_variance:
            return encoded.latents
        moments = encoded.latent_dist.parameters.float()
        mean, log_variance = moments.chunk(2, dim=1)
        return torch.cat([mean, log_variance.clamp(*LOG_VARIANCE_RANGE)], dim=1)

    def _decode(self, latents: Tensor) -> Tensor:
        with self._autocast():
            return self.model.decode(latents).sample

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._precision == "bfloat16")

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device


def _load(folder: str, config: Mapping[str, Any], family: str, where: str) -> nn.Module:
    try:
        import diffusers
        from diffusers.utils import logging as diffusers_logging
    except ImportError:
        raise UserError(
            "latents need the package diffusers", where="stage2.latents", fix="pip install 'dpt_ray[latents]'"
        ) from None
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    kind = getattr(diffusers, family)
    try:
        check_weights(config, Path(folder) / WEIGHTS, lambda: kind.from_config(dict(config)))
        model, loaded = kind.from_pretrained(
            folder,
            use_safetensors=True,  # never a pickle
            low_cpu_mem_usage=False,  # True needs the package accelerate
            local_files_only=True,
            output_loading_info=True,
            torch_dtype=torch.float32,
        )
    except Exception as error:  # diffusers and safetensors raise many types for damaged or foreign files
        raise UserError(f"is no {family} that can be loaded ({one_line(error)})", where=where) from None
    wrong = [name for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in loaded.get(kind, ())]
    if wrong:
        raise UserError(
            f"its weights do not match its configuration of {family}: {len(wrong)} tensors are missing, surplus or of "
            f"another shape, first {wrong[0]}",
            where=where,
        )
    return model
