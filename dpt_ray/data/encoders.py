"""Where an encoder's files are: on this machine, in object storage, or on the Hugging Face hub."""

import tempfile
from pathlib import Path
from typing import Any

from dpt_ray.config.schema import ProbeConfig
from dpt_ray.core.models.encoders import FrozenEncoder
from dpt_ray.data import stores
from dpt_ray.errors import UserError

FILES = ("config.json", "model.safetensors")


def encoder_identity(location: str) -> dict[str, Any]:
    """Return what tells an encoder from another one: its files' sizes and changes, or its name on the hub.

    Raises:
        UserError: a folder without the files.
    """
    if not _is_folder(location):
        return {"name": location}
    files = {file["name"]: file for file in stores.list_files(location)}
    missing = [name for name in FILES if name not in files]
    if missing:
        raise UserError(f"lacks {missing[0]}", where=location, fix=f"an encoder's folder holds {' and '.join(FILES)}")
    return {name: [files[name]["size"], files[name]["changed"]] for name in FILES}


def located(probe: ProbeConfig) -> ProbeConfig:
    """Return the settings with an encoder's folder named so that every process finds it."""
    if not _is_folder(probe.encoder):
        return probe
    return probe.model_copy(update={"encoder": stores.absolute_url(probe.encoder)})


def open_encoder(location: str, *, crop: int, blocks: int, device: str = "cpu") -> FrozenEncoder:
    """Load an encoder; files in object storage are fetched first.

    Raises:
        UserError: see `FrozenEncoder`.
    """
    if not _is_folder(location) or not stores.is_remote(location):
        return FrozenEncoder(location, crop=crop, blocks=blocks).to(device)
    with tempfile.TemporaryDirectory() as folder:
        for name in FILES:
            (Path(folder) / name).write_bytes(stores.read_bytes(stores.join(location, name)))
        return FrozenEncoder(folder, crop=crop, blocks=blocks).to(device)


def _is_folder(location: str) -> bool:
    """A name on the hub is `owner/name`; whatever exists here or is a URL is none."""
    return "://" in location or Path(location).is_dir() or location.startswith((".", "/", "~"))
