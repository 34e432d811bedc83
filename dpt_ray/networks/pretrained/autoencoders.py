"""Finding, identifying and loading autoencoders. An autoencoder is identified by its content."""

import hashlib
import json
import tempfile
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.generator_section import GeneratorConfig, LatentsConfig
from dpt_ray.core.diffusion.latent_moments import LatentScale
from dpt_ray.core.models.diffusers_autoencoder import CONFIG, WEIGHTS, Autoencoder, AutoencoderForm, autoencoder_form
from dpt_ray.core.models.pretrained import parse_config
from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.shards.stored_latents import LatentForm
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.networks.pretrained import model_files

FILES = (CONFIG, WEIGHTS)


@dataclass(frozen=True)
class FoundAutoencoder:
    """An autoencoder as its files describe it.

    Attributes:
        location: folder, URL or name on the Hugging Face hub.
        config: content of `config.json`.
        form: shapes and scaling.
        checksum: hash of configuration and weights; it does not depend on the location.
    """

    location: str
    config: JsonObject
    form: AutoencoderForm
    checksum: str

    def scale(self, latents: LatentsConfig) -> LatentScale:
        """Return the scaling of its latents: that of the settings if given, otherwise its own."""
        return LatentScale(latents.scale or self.form.scale, self.form.shift)


def find_autoencoder(location: str) -> FoundAutoencoder:
    """Read an autoencoder's files, without diffusers.

    Raises:
        UserError: the files are missing, or describe no supported autoencoder.
    """
    try:
        config = parse_config(_content(location, CONFIG))
        form = autoencoder_form(config)
    except ValueError as error:
        raise UserError(str(error), where=f"{location}/{CONFIG}") from None
    return FoundAutoencoder(location, config, form, _checksum(config, _weights_checksum(location)))


def check_settings(found: FoundAutoencoder, latents: LatentsConfig, channels: int) -> None:
    """Refuse settings that do not match an autoencoder; `channels` are the colour channels of the images.

    Raises:
        UserError: a setting does not match; the message names it.
    """
    form = found.form
    for setting, given, has in (
        ("stage2.latents.channels", latents.channels, form.channels),
        ("stage2.latents.downsampling", latents.downsampling, form.downsampling),
        ("data.channels", channels, form.image_channels),
    ):
        if given != has:
            raise UserError(f"is an autoencoder with {setting} {has}, not {given}", where=found.location,
                            fix=f"set {setting}={has}, or give another autoencoder")  # fmt: skip


def check_same(found: FoundAutoencoder, checksum: str, what: str) -> None:
    """Refuse an autoencoder with another checksum.

    Args:
        found: the autoencoder.
        checksum: checksum of the autoencoder that is required.
        what: subject and verb of the message: what was made with the required autoencoder.

    Raises:
        UserError: the checksums differ.
    """
    if found.checksum != checksum:
        raise UserError(
            f"{what} of another autoencoder ({checksum[:12]}) than {found.location} holds ({found.checksum[:12]})",
            where="stage2.latents.autoencoder",
            fix="give the autoencoder that they were made with, or start the job again to make them with this one",
        )


def latent_form(config: GeneratorConfig, data: DataConfig, found: FoundAutoencoder) -> LatentForm:
    """Return the form of the latents that a generator is trained on."""
    size, channels = config.canvas(data)
    return LatentForm(
        autoencoder=found.checksum,
        precision=config.latents.precision,
        image_size=data.image_size,
        flips=2 if config.flip else 1,
        has_variance=found.form.has_variance,
        channels=channels,
        size=size,
        storage=config.latents.storage,
    )


def open_autoencoder(
    found: FoundAutoencoder,
    *,
    precision: Literal["float32", "bfloat16"] = "float32",
    batch: int | None = None,
    device: str = "cpu",
) -> Autoencoder:
    """Load an autoencoder; remote files are downloaded first.

    Raises:
        UserError: see `Autoencoder`.
    """
    build = partial(Autoencoder, config=found.config, precision=precision, batch=batch, where=found.location)
    if model_files.is_folder(found.location) and not stores.is_remote(found.location):
        folder = str(Path(found.location.removeprefix("file://")).expanduser())
        return build(folder).to(device)
    with tempfile.TemporaryDirectory() as folder:
        for name in FILES:
            (Path(folder) / name).write_bytes(_content(found.location, name))
        return build(folder).to(device)


def autoencoder_files(location: str) -> dict[str, bytes]:
    """Return the content of an autoencoder's files by name.

    Raises:
        UserError: a file is missing.
    """
    return {name: _content(location, name) for name in FILES}


def _content(location: str, name: str) -> bytes:
    if model_files.is_folder(location):
        model_files.listed_files(location, FILES, "an autoencoder's")
        return stores.read_bytes(stores.join(location, name))
    return Path(model_files.hub_file(location, name)).read_bytes()


def _weights_checksum(location: str) -> str:
    if not model_files.is_folder(location):
        return sha256(_content(location, WEIGHTS))
    file = model_files.listed_files(location, FILES, "an autoencoder's")[WEIGHTS]
    return _file_checksum(file["url"], file["size"], file["changed"])


@lru_cache(maxsize=16)
def _file_checksum(url: str, size: int | None, changed: str) -> str:
    """Return a file's checksum, cached until its size or its change mark differs."""
    return sha256(stores.read_bytes(url))


def _checksum(config: JsonObject, weights: str) -> str:
    """Return a hash of settings and weights, without the keys that diffusers adds when it saves a configuration."""
    settings = {name: value for name, value in config.items() if not name.startswith("_") or name == "_class_name"}
    return hashlib.sha256(json.dumps([settings, weights], sort_keys=True).encode()).hexdigest()


def located(config: GeneratorConfig) -> GeneratorConfig:
    """Return the settings with the autoencoder's folder as an absolute URL, valid in every process."""
    if config.latents.autoencoder is None:
        return config
    place = model_files.located(config.latents.autoencoder)
    return config.model_copy(update={"latents": config.latents.model_copy(update={"autoencoder": place})})
