"""Identifying and loading encoders in a local folder, in object storage, or on the Hugging Face hub."""

import tempfile
from pathlib import Path

from dpt_ray.config.probe_section import ProbeConfig
from dpt_ray.core.models.efficientnet_lite import LITE, EfficientNetLite
from dpt_ray.core.models.frozen_encoder import CONFIG, WEIGHTS, FrozenEncoder
from dpt_ray.core.models.image_processor import PROCESSOR
from dpt_ray.core.models.pretrained import parse_config
from dpt_ray.data.storage import stores
from dpt_ray.json_values import JsonObject
from dpt_ray.networks.pretrained import lite_encoder, model_files

FILES = (CONFIG, WEIGHTS)

Encoder = FrozenEncoder | EfficientNetLite


def encoder_identity(location: str) -> JsonObject:
    """Return the identity of an encoder: sizes and change marks of its files, or name and revision on the hub.

    A name on the hub says in addition that pixels are scaled as its own processor says, which earlier versions did not.

    Raises:
        UserError: the folder lacks one of the files.
    """
    if location == LITE:
        return dict(lite_encoder.identity())
    if not model_files.is_folder(location):
        return {"name": location, "pixels": "processor"}
    files = model_files.listed_files(location, FILES, "an encoder's", optional=(PROCESSOR,))
    return {name: [file["size"], file["changed"]] for name, file in files.items()}


def located(probe: ProbeConfig) -> ProbeConfig:
    """Return the settings with the encoder's folder as an absolute URL, valid in every process."""
    return probe.model_copy(update={"encoder": model_files.located(probe.encoder)})


def open_encoder(location: str, *, crop: int, blocks: int, device: str = "cpu") -> Encoder:
    """Load an encoder; files in object storage or on the hub are downloaded first.

    Raises:
        UserError: see `FrozenEncoder` and `open_lite`.
    """
    if location == LITE:
        return lite_encoder.open_lite(crop=crop, blocks=blocks).to(device)
    if not model_files.is_folder(location):
        paths = [Path(model_files.hub_file(location, name)) for name in FILES]
        model_files.hub_file_if_there(location, PROCESSOR)  # beside the others in the hub's cache
        return _open_folder(str(paths[0].parent), crop, blocks, location).to(device)
    if not stores.is_remote(location):
        folder = str(Path(location.removeprefix("file://")).expanduser())
        return _open_folder(folder, crop, blocks, location).to(device)
    with tempfile.TemporaryDirectory() as folder:
        for name in model_files.listed_files(location, FILES, "an encoder's", optional=(PROCESSOR,)):
            (Path(folder) / name).write_bytes(stores.read_bytes(stores.join(location, name)))
        return _open_folder(folder, crop, blocks, location).to(device)


def _open_folder(folder: str, crop: int, blocks: int, where: str) -> Encoder:
    if _is_lite(Path(folder) / CONFIG):
        return lite_encoder.open_lite(crop=crop, blocks=blocks, folder=folder, where=where)
    return FrozenEncoder(folder, crop=crop, blocks=blocks, where=where)


def _is_lite(config: Path) -> bool:
    """Whether a configuration is that of an exported EfficientNet; `FrozenEncoder` reports an unreadable one."""
    try:
        return parse_config(config.read_bytes()).get("model_type") == LITE
    except (OSError, ValueError, RecursionError):
        return False
