"""Published U-ViT weights as a generator's file of ours."""

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dpt_ray.config.schema import GeneratorConfig, GeneratorModelConfig, LatentsConfig, SamplingConfig
from dpt_ray.core.models.network_settings import build_generator
from dpt_ray.core.models.uvit_names import DISCRETE_WIDTHS, PUBLISHED_HEADS, our_names, uvit_sizes
from dpt_ray.core.state_mismatch import describe_mismatch
from dpt_ray.core.weights import save_network
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.networks.generator import RUN_SETTINGS
from dpt_ray.networks.latent_decoder import latent_description
from dpt_ray.networks.pretrained import model_files
from dpt_ray.networks.pretrained.autoencoders import find_autoencoder

OFFICIAL_SAMPLERS = {"variance_preserving": "dpm_solver_fast", "discrete_variance_preserving": "dpm_solver_pp_fast"}
"""The solver of the official code by process: from t = 1 to 1e-4, evenly in log-SNR, and to 0.001, evenly in time. Both
end there, without a last denoising. U-ViTs were published with no other process."""

_EVALUATIONS = 50
_LARGE_LATENT, _LARGE_GUIDANCE = (4, 64), 0.7
"""Channels and side of the latents of 512 x 512 images, and the guidance scale of the networks that draw them."""


def import_uvit(
    url: str,
    *,
    heads: int | None = None,
    process: str | None = None,
    latents: LatentsConfig | None = None,
) -> bytes:
    """Return the file of a generator (`networks.Generator`) with the weights of an official checkpoint.

    Arguments and errors are those of `convert_uvit`.
    """
    return save_network(*convert_uvit(url, heads=heads, process=process, latents=latents))


def convert_uvit(
    url: str,
    *,
    heads: int | None = None,
    process: str | None = None,
    latents: LatentsConfig | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network of an official checkpoint, and what a generator's file says of it.

    That includes how the official code samples from it, which is what `dpt_ray.load_generator` then does.

    Args:
        url: a torch file that holds a state dict in the names of `core/models/uvit_names.py`.
        heads: attention heads, which the weights do not show; the published ones of their width if None.
        process: the `stage2.process` that the network was trained with; the published one of its width if None.
        latents: the autoencoder and the scale that it was trained with, for a network of latents; without them it
            draws latents, which are no images.

    Raises:
        UserError: it holds more than tensors, or other weights than a class-conditional U-ViT's, or the autoencoder
            cannot be read or has latents with other channels.
    """
    try:
        weights = our_names(read_tensors(url))
        sizes = uvit_sizes(weights)
        config = _config(sizes, heads, process)
        form = {
            "image_size": sizes["image_size"],
            "channels": sizes["in_channels"],
            "num_classes": sizes["num_classes"],
        }
        with torch.device("meta"):
            network = build_generator(config, **form)
        if complaint := describe_mismatch(weights, network.state_dict()):
            raise ValueError(f"not the weights of a U-ViT: {complaint} (in our names)")
    except ValueError as error:
        raise UserError(str(error), where=url) from None
    described = {} if latents is None else _described(latents, form["channels"])
    if config.process in OFFICIAL_SAMPLERS:
        sampling = official_sampling(config.process, form["channels"], form["image_size"])
        described["sampling"] = sampling.model_dump(mode="json", exclude=set(RUN_SETTINGS))
    network.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)
    settings = config.model_dump(mode="json", exclude={"latents"})
    return network, {"kind": "generator", "config": settings, **form, **described}


def official_sampling(process: str, channels: int, image_size: int) -> SamplingConfig:
    """Return how the official code samples from a U-ViT; channels and side are those of what the network sees."""
    scale = _LARGE_GUIDANCE if (channels, image_size) == _LARGE_LATENT else 0.4
    return SamplingConfig.model_validate(
        {"sampler": OFFICIAL_SAMPLERS[process], "steps": _EVALUATIONS, "guidance_scale": scale}
    )


def read_tensors(url: str) -> Mapping[str, Tensor]:
    """Return the named tensors of a torch file. Nothing but tensors is ever built from it.

    Raises:
        UserError: it cannot be read, or holds anything else, or claims more than its own size.
    """
    data = stores.read_bytes(url)
    if complaint := _archive_complaint(data):
        raise UserError(complaint, where=url, fix=_FIX)
    try:
        # Weights only: no function or class that the file names is called.
        content: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch raises at bytes that somebody else wrote
        raise UserError("not a torch file of tensors alone", where=url, fix=_FIX) from error
    tensors = isinstance(content, Mapping) and content
    if not tensors or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
        raise UserError("holds no named tensors", where=url, fix=_FIX)
    for name, value in content.items():
        if value.layout != torch.strided or value.is_quantized or value.is_meta or not value.is_contiguous():
            raise UserError(f"its tensor {name[:80]!r} is not dense and contiguous", where=url, fix=_FIX)
    claimed = sum(value.numel() * value.element_size() for value in content.values())
    if claimed > len(data):
        raise UserError(f"its tensors claim {claimed:,} bytes, but it has {len(data):,}", where=url, fix=_FIX)
    return content


_FIX = "give the state dict (nnet_ema.pth) itself"
_MAX_MEMBERS, _MAX_PICKLE_BYTES = 100_000, 64 << 20


def _archive_complaint(data: bytes) -> str | None:
    """Say why a file is no torch archive that costs what it weighs; None if it is one.

    Older formats of torch (tar, a bare pickle) state their sizes in the pickle, where nothing bounds them.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError, EOFError, struct.error):
        return "not a torch file of tensors alone (no zip archive, the format of torch 1.6 and later)"
    names = {member.filename for member in members}
    if len(names) < len(members) or len(members) > _MAX_MEMBERS:
        return "holds a member twice, or too many"
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        return "is compressed; a torch file stores its tensors as they are"
    if sum(member.file_size for member in members) > len(data):
        return "claims more bytes than it has"
    if any(member.filename.endswith(".pkl") and member.file_size > _MAX_PICKLE_BYTES for member in members):
        return f"has a description of more than {_MAX_PICKLE_BYTES >> 20} MiB"
    return None


def _described(latents: LatentsConfig, channels: int) -> dict[str, Any]:
    place = model_files.located(latents.autoencoder or "")
    found = find_autoencoder(place)
    if found.form.channels != channels:
        raise UserError(f"has latents with {found.form.channels} channels, the U-ViT has {channels}", where=place)
    return latent_description(found, latents)


def _config(sizes: Mapping[str, Any], heads: int | None, process: str | None) -> GeneratorConfig:
    """Return settings of which those that build the network are the checkpoint's.

    Raises:
        ValueError: the heads are not known or impossible.
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
