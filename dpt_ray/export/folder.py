"""The folder of an exported network.

    model.safetensors   the weights, with a description from which the network is built
    README.md           the model card
    config.json         the configuration, with the checksum of every other file; written last
    encoder/            a linear probe's encoder, as transformers stores it
    autoencoder/        the autoencoder of a generator of latents, as diffusers stores it
    snapshots/          the snapshot that serves as the weaker model of autoguidance
    model.onnx          a classifier's graph, with `--onnx`

A folder is an export once it holds `config.json`. So on any storage, a reader sees a complete export or none.
"""

import re
from collections.abc import Mapping
from typing import NotRequired, TypedDict, cast

from dpt_ray.core.weights import Description, SamplingEntry
from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.networks.snapshots import SNAPSHOT_FOLDER

CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, ONNX_FILE = "config.json", "model.safetensors", "README.md", "model.onnx"
ENCODER_FOLDER, AUTOENCODER_FOLDER = "encoder", "autoencoder"
EXPORT_KINDS = ("classifier", "probe", "generator")
FORMAT, FORMAT_VERSION = "dpt_ray export", 1

_OURS = re.compile(
    rf"(\.?({CONFIG_FILE}|{WEIGHTS_FILE}|{CARD_FILE}|{ONNX_FILE}(\.data)?)"
    rf"|({ENCODER_FOLDER}|{AUTOENCODER_FOLDER}|{SNAPSHOT_FOLDER})/[^/]+)(\.[0-9a-f]+\.partial)?"
)
_FINISHED = re.compile(
    rf"{CONFIG_FILE}|{WEIGHTS_FILE}|{CARD_FILE}|{ONNX_FILE}(\.data)?"
    rf"|({ENCODER_FOLDER}|{AUTOENCODER_FOLDER})/\w[\w.-]*\.(json|safetensors)|{SNAPSHOT_FOLDER}/\w[\w.-]*\.safetensors"
)


def belongs_to_export(name: str) -> bool:
    """Whether a finished export may hold a file of this name, a path below its folder; none is a pickle."""
    return _FINISHED.fullmatch(name) is not None


class ImageEntry(TypedDict):
    """The images of a network: side in pixels, channels, and the white level of images of more than 8 bits."""

    size: int
    channels: int
    white: NotRequired[int]


class FileEntry(TypedDict):
    """Size in bytes and checksum of a file."""

    bytes: int
    sha256: str


class MetricEntry(TypedDict):
    """A figure of the run: its name, its value and its meaning in words."""

    name: str
    value: float
    meaning: str


class TrainingData(TypedDict):
    """What a network was trained on.

    Attributes:
        data: location of the images; None if it is not known.
        images: number of training images.
        true_labels: number of true labels.
        labels: the labels, in words.
        labels_per_class: number of pseudo-labels of each class; None if there are none.
        images_seen: length of the training, with repeats; None for a probe.
        encoder: location of a probe's encoder.
    """

    data: str | None
    images: int
    true_labels: int
    labels: str
    labels_per_class: list[int] | None
    images_seen: int | None
    encoder: NotRequired[str]


class ImportEntry(TypedDict):
    """Of an imported network: whether it has published sampling settings."""

    published_sampling: bool


class HubEntry(TypedDict):
    """Where an export was loaded from on the hub: `owner/name`, and the hash of the commit."""

    name: str
    revision: str


class ExportConfig(TypedDict, total=False):
    """The content of `config.json`. `read_export` checks the first four entries.

    Attributes:
        kind: "classifier", "probe" or "generator".
        format_version: version of the folder's form.
        classes: name of each class, by id.
        files: the other files by name.
        format: `FORMAT`.
        title: name of the run or file.
        architecture: the network, in words.
        parameters: number of its parameters.
        network: description in the file of weights.
        artifact: address of the training step.
        software: package -> version in training.
        image: the images of the network.
        knows_null_label: generator: whether it was trained with label dropout.
        sampling: generator: sampling settings.
        sampled_in_run: generator: whether a run has sampled with these settings.
        run_seed: generator: seed of the run.
        imported: how the network was imported; absent for a network of a run.
        trained_on: training data; absent for an imported network.
        metrics: figures of the run.
        hub: set when the export is loaded from the hub; not in the file.
    """

    kind: str
    format_version: int
    classes: list[str]
    files: dict[str, FileEntry]
    format: str
    title: str
    architecture: str
    parameters: int
    network: Description
    artifact: str
    software: dict[str, str]
    image: ImageEntry
    knows_null_label: bool
    sampling: SamplingEntry
    sampled_in_run: bool
    run_seed: int
    imported: ImportEntry
    trained_on: TrainingData
    metrics: list[MetricEntry]
    hub: HubEntry


def check_free(url: str) -> None:
    """Refuse a folder that is not free for an export. Files of an interrupted export may be there.

    Raises:
        UserError: the folder holds an export or other files, or cannot be listed.
    """
    names = [file["name"] for file in stores.list_tree(url)]
    if CONFIG_FILE in names:
        raise UserError("holds a model already", where=url, fix="remove it, or export to another folder")
    foreign = [name for name in names if not _OURS.fullmatch(name)]
    if foreign:
        raise UserError(f"holds other files ({foreign[0]})", where=url, fix="export to an empty or new folder")


def write_export(url: str, files: Mapping[str, bytes], config: ExportConfig) -> None:
    """Write an exported network.

    Args:
        url: path or URL of the folder.
        files: contents by name, including `WEIGHTS_FILE`.
        config: further entries of `config.json`, including `kind`.

    Raises:
        UserError: the folder is not free (see `check_free`) or cannot be written.
    """
    check_free(url)
    for file in stores.list_tree(url):  # of an interrupted export
        stores.remove_tree(file["url"])
    for name, content in files.items():
        stores.write_bytes(stores.join(url, name), content)
    entries = {name: {"bytes": len(content), "sha256": sha256(content)} for name, content in files.items()}
    document = {"format": FORMAT, "format_version": FORMAT_VERSION, **config, "files": entries}
    stores.write_json(stores.join(url, CONFIG_FILE), document)


def read_export(url: str, kinds: tuple[str, ...]) -> ExportConfig:
    """Return the content of `config.json` of an exported network.

    Args:
        url: path or URL of the folder.
        kinds: accepted kinds of network; the first names the wanted one in messages.

    Raises:
        UserError: the folder holds no export, an unfinished one, one of another kind, or one of a later version.
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
    if missing := _missing_entry(config):
        raise UserError(f"lacks {missing}", where=place, fix="copy or export it again")
    return cast("ExportConfig", config)


def _shown(value: object) -> str:
    """Return the first characters of a foreign value, for messages."""
    return f"{value!s:.40}"


def _missing_entry(config: Mapping[str, object]) -> str | None:
    """Return the name of a required entry that is missing or malformed; None if there is none."""
    classes, files = config.get("classes"), config.get("files")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        return "classes"
    if not isinstance(files, dict):
        return "files"
    weights = files.get(WEIGHTS_FILE)
    return None if isinstance(weights, dict) and isinstance(weights.get("sha256"), str) else WEIGHTS_FILE
