"""Conversion of official U-ViT checkpoints to generator files of this package."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from dpt_ray.config.generator_section import GeneratorConfig, GeneratorModelConfig, LatentsConfig
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.core.models.network_settings import build_generator
from dpt_ray.core.models.uvit_names import DISCRETE_WIDTHS, PUBLISHED_HEADS, our_names, uvit_sizes
from dpt_ray.core.state_mismatch import describe_mismatch
from dpt_ray.core.weights import Description, LatentEntry, SamplingEntry, save_network
from dpt_ray.errors import UserError
from dpt_ray.networks.generator import NOT_DESCRIBED, RUN_SETTINGS
from dpt_ray.networks.latent_decoder import latent_description
from dpt_ray.networks.pretrained import model_files
from dpt_ray.networks.pretrained.autoencoders import find_autoencoder
from dpt_ray.networks.torch_files import read_tensors

OFFICIAL_SAMPLERS = {"variance_preserving": "dpm_solver_fast", "discrete_variance_preserving": "dpm_solver_pp_fast"}
"""Process -> solver of the official code, for all processes of published U-ViTs. The first solver runs from t = 1 to
1e-4, evenly in log-SNR; the second from t = 1 to 0.001, evenly in time. Both return the state there, without a last
denoising."""

_EVALUATIONS = 50
_FIX = "give the state dict (nnet_ema.pth) itself"
_LARGE_LATENT, _LARGE_GUIDANCE = (4, 64), 0.7
"""Channels and side of the latents of 512 x 512 images, and the official guidance scale for them."""


def import_uvit(
    url: str,
    *,
    heads: int | None = None,
    process: str | None = None,
    latents: LatentsConfig | None = None,
) -> bytes:
    """Return the content of a generator's file (`networks.Generator`) with the weights of an official checkpoint.

    Arguments and errors are those of `convert_uvit`.
    """
    return save_network(*convert_uvit(url, heads=heads, process=process, latents=latents))


def convert_uvit(
    url: str,
    *,
    heads: int | None = None,
    process: str | None = None,
    latents: LatentsConfig | None = None,
) -> tuple[nn.Module, Description]:
    """Return the network of an official checkpoint, and its description for a generator's file.

    The description holds the sampling settings of the official code, which `dpt_ray.load_generator` then uses.

    Args:
        url: path or URL of a torch file with a state dict under the official names of `core/models/uvit_names.py`.
        heads: number of attention heads, which cannot be read off the weights; the published number for their width if
            None.
        process: the `stage2.process` that the network was trained with; the published one for its width if None.
        latents: autoencoder and scale that the network was trained with. If None, the generator returns the network's
            output as images; for a network of latents these are latents.

    Raises:
        UserError: the file holds anything but tensors, or the weights are not those of a class-conditional U-ViT; or
            the autoencoder cannot be read, or has another number of channels.
    """
    try:
        weights = our_names(read_tensors(url, _FIX))
        sizes = uvit_sizes(weights)
        config = _config(sizes, heads, process)
        size, channels, num_classes = sizes["image_size"], sizes["in_channels"], sizes["num_classes"]
        with torch.device("meta"):
            network = build_generator(config, image_size=size, channels=channels, num_classes=num_classes)
        if complaint := describe_mismatch(weights, network.state_dict()):
            raise ValueError(f"not the weights of a U-ViT: {complaint} (in our names)")
    except ValueError as error:
        raise UserError(str(error), where=url) from None
    description: Description = {
        "kind": "generator",
        "config": config.model_dump(mode="json", exclude=set(NOT_DESCRIBED)),
        "image_size": size,
        "channels": channels,
        "num_classes": num_classes,
    }
    if latents is not None:
        description["latents"] = _described(latents, channels)["latents"]
    if config.process in OFFICIAL_SAMPLERS:
        sampling = official_sampling(config.process, channels, size)
        description["sampling"] = cast("SamplingEntry", sampling.model_dump(mode="json", exclude=set(RUN_SETTINGS)))
    network.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)
    return network, description


def official_sampling(process: str, channels: int, image_size: int) -> SamplingConfig:
    """Return the sampling settings of the official code for a U-ViT.

    Args:
        process: a key of `OFFICIAL_SAMPLERS`.
        channels: channels of the network's input.
        image_size: side of the network's input in pixels.
    """
    scale = _LARGE_GUIDANCE if (channels, image_size) == _LARGE_LATENT else 0.4
    return SamplingConfig.model_validate(
        {"sampler": OFFICIAL_SAMPLERS[process], "steps": _EVALUATIONS, "guidance_scale": scale}
    )


def _described(latents: LatentsConfig, channels: int) -> LatentEntry:
    place = model_files.located(latents.autoencoder or "")
    found = find_autoencoder(place)
    if found.form.channels != channels:
        raise UserError(f"has latents with {found.form.channels} channels, the U-ViT has {channels}", where=place)
    return latent_description(found, latents)


def _config(sizes: Mapping[str, Any], heads: int | None, process: str | None) -> GeneratorConfig:
    """Return generator settings with the checkpoint's network and process; the other settings are defaults.

    Raises:
        ValueError: the number of heads is unknown or does not divide the width, or there are no blocks.
    """
    dim = sizes["dim"]
    heads = heads or PUBLISHED_HEADS.get(dim)
    if heads is None:
        raise ValueError(f"no published U-ViT is {dim} wide, so the number of attention heads is needed; give --heads")
    if dim % heads:
        raise ValueError(f"{heads} attention heads do not divide the width {dim}; give other --heads")
    if not sizes["depth"]:
        raise ValueError("no blocks, so this is no U-ViT")
    model = GeneratorModelConfig(
        name="uvit",
        heads=heads,
        **{name: sizes[name] for name in ("patch_size", "dim", "depth", "final_conv")},
    )
    published = "discrete_variance_preserving" if dim in DISCRETE_WIDTHS else "variance_preserving"
    return GeneratorConfig.model_validate({"model": model, "process": process or published})
