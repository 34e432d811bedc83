"""The folder of an exported network: weights, a card for people, and a configuration that is written last.

    model.safetensors   the weights, with a description from which the network is built
    README.md           the model card
    config.json         what the folder holds, with the checksum of every other file
    encoder/            a linear probe's encoder, as transformers stores it
    autoencoder/        the autoencoder of a generator of latents, as diffusers stores it
    snapshots/          the early network of a generator that autoguidance guides
    model.onnx          a classifier's graph, if it was asked for

A folder is an export once `config.json` is there; on any storage a reader sees a whole one or none.
"""

import re
from collections.abc import Mapping
from typing import Any

from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.networks.snapshots import SNAPSHOT_FOLDER

CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, ONNX_FILE = "config.json", "model.safetensors", "README.md", "model.onnx"
ENCODER_FOLDER, AUTOENCODER_FOLDER = "encoder", "autoencoder"
FORMAT, FORMAT_VERSION = "dpt_ray export", 1

_OURS = re.compile(
    rf"(\.?({CONFIG_FILE}|{WEIGHTS_FILE}|{CARD_FILE}|{ONNX_FILE}(\.data)?)"
    rf"|({ENCODER_FOLDER}|{AUTOENCODER_FOLDER}|{SNAPSHOT_FOLDER})/[^/]+)(\.[0-9a-f]+\.partial)?"
)


def check_free(url: str) -> None:
    """Refuse a folder that an export must not be written to; what an interrupted one left may be there.

    Raises:
        UserError: it holds an export already, or files of something else, or may not be listed.
    """
    names = [file["name"] for file in stores.list_tree(url)]
    if CONFIG_FILE in names:
        raise UserError("holds a model already", where=url, fix="remove it, or export to another folder")
    foreign = [name for name in names if not _OURS.fullmatch(name)]
    if foreign:
        raise UserError(f"holds other files ({foreign[0]})", where=url, fix="export to an empty or new folder")


def write_export(url: str, files: Mapping[str, bytes], config: Mapping[str, Any]) -> None:
    """Write an exported network.

    Args:
        url: the folder, any URL.
        files: contents by name, `WEIGHTS_FILE` among them.
        config: what else `config.json` says, `kind` among it.

    Raises:
        UserError: as `check_free`, or it cannot be written.
    """
    check_free(url)
    for file in stores.list_tree(url):  # of an interrupted export
        stores.remove_tree(file["url"])
    for name, content in files.items():
        stores.write_bytes(stores.join(url, name), content)
    facts = {name: {"bytes": len(content), "sha256": sha256(content)} for name, content in files.items()}
    document = {"format": FORMAT, "format_version": FORMAT_VERSION, **config, "files": facts}
    stores.write_json(stores.join(url, CONFIG_FILE), document)


def read_export(url: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Return what `config.json` of an exported network says.

    Args:
        url: the folder.
        kinds: what it may hold.

    Raises:
        UserError: it is no export, an unfinished one, of another kind, or of a later version of this package.
    """
    place = stores.join(url, CONFIG_FILE)
    if not stores.exists(place):
        fix = f"give a folder that dpt export wrote; {CONFIG_FILE} is written last, so it may be unfinished"
        raise UserError(f"holds no exported {kinds[0]}", where=url, fix=fix)
    config = stores.read_json(place)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise UserError(f"is no configuration of an exported {kinds[0]}", where=place, fix="export it with dpt export")
    if config.get("format_version") != FORMAT_VERSION:
        version = _shown(config.get("format_version"))
        raise UserError(f"is of version {version}", where=place, fix="install a newer dpt_ray")
    if config.get("kind") not in kinds:
        raise UserError(
            f"holds a {_shown(config.get('kind'))}, not a {kinds[0]}", where=url, fix=f"export a {kinds[0]}"
        )
    if lack := _lack(config):
        raise UserError(f"lacks {lack}", where=place, fix="copy or export it again")
    return config


def _shown(value: Any) -> str:
    """Return the beginning of a value that somebody else wrote."""
    return f"{value!s:.40}"


def _lack(config: dict[str, Any]) -> str | None:
    """Name what a reader needs and the configuration does not have, or not as it should be."""
    classes, files = config.get("classes"), config.get("files")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        return "classes"
    if not isinstance(files, dict):
        return "files"
    weights = files.get(WEIGHTS_FILE)
    return None if isinstance(weights, dict) and isinstance(weights.get("sha256"), str) else WEIGHTS_FILE
