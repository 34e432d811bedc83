"""Identifying and loading encoders in a local folder, in object storage, or on the Hugging Face hub."""

import tempfile
from pathlib import Path

from dpt_ray.config.schema import ProbeConfig
from dpt_ray.core.models.frozen_encoder import CONFIG, WEIGHTS, FrozenEncoder
from dpt_ray.data.storage import stores
from dpt_ray.json_values import JsonObject
from dpt_ray.networks.pretrained import model_files

FILES = (CONFIG, WEIGHTS)


def encoder_identity(location: str) -> JsonObject:
    """Return the identity of an encoder: sizes and change marks of its files, or name and revision on the hub.

    Raises:
        UserError: the folder lacks one of the files.
    """
    if not model_files.is_folder(location):
        return {"name": location}
    files = model_files.listed_files(location, FILES, "an encoder's")
    return {name: [file["size"], file["changed"]] for name, file in files.items()}


def located(probe: ProbeConfig) -> ProbeConfig:
    """Return the settings with the encoder's folder as an absolute URL, valid in every process."""
    return probe.model_copy(update={"encoder": model_files.located(probe.encoder)})


def open_encoder(location: str, *, crop: int, blocks: int, device: str = "cpu") -> FrozenEncoder:
    """Load an encoder; files in object storage or on the hub are downloaded first.

    Raises:
        UserError: see `FrozenEncoder`.
    """
    if not model_files.is_folder(location):
        paths = [Path(model_files.hub_file(location, name)) for name in FILES]
        return FrozenEncoder(str(paths[0].parent), crop=crop, blocks=blocks, where=location).to(device)
    if not stores.is_remote(location):
        folder = str(Path(location.removeprefix("file://")).expanduser())
        return FrozenEncoder(folder, crop=crop, blocks=blocks, where=location).to(device)
    with tempfile.TemporaryDirectory() as folder:
        for name in FILES:
            (Path(folder) / name).write_bytes(stores.read_bytes(stores.join(location, name)))
        return FrozenEncoder(folder, crop=crop, blocks=blocks, where=location).to(device)
