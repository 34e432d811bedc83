"""Export of the networks of runs to folders that load without Ray; see `export/folder.py`."""

import json
import tempfile
from pathlib import Path
from typing import cast

from dpt_ray import __version__
from dpt_ray.config.generator_section import GeneratorConfig, LatentsConfig
from dpt_ray.config.probe_section import STAGE0
from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.core.models.efficientnet_lite import EfficientNetLite
from dpt_ray.core.models.image_processor import PROCESSOR
from dpt_ray.core.weights import Description, SamplingEntry, save_network
from dpt_ray.data.storage import stores
from dpt_ray.export.card import model_card
from dpt_ray.export.folder import (
    AUTOENCODER_FOLDER,
    CARD_FILE,
    ENCODER_FOLDER,
    WEIGHTS_FILE,
    ExportConfig,
    ImageEntry,
    check_free,
    write_export,
)
from dpt_ray.export.loaded_generator import default_sampling
from dpt_ray.export.onnx_graph import onnx_files
from dpt_ray.networks.classifier import Classifier
from dpt_ray.networks.files import NETWORK_FILE, network_kind
from dpt_ray.networks.generator import RUN_SETTINGS, Generator
from dpt_ray.networks.own_encoder import OwnEncoder
from dpt_ray.networks.pretrained.autoencoders import autoencoder_files, find_autoencoder
from dpt_ray.networks.pretrained.lite_encoder import exported_files
from dpt_ray.networks.probe import Probe, head_file
from dpt_ray.networks.probe_encoder import exported_own_encoder
from dpt_ray.networks.snapshots import early_file
from dpt_ray.networks.uvit_checkpoint import convert_uvit
from dpt_ray.pipeline.export_entries import classifier_data, common_entries, generator_data, metric_entries
from dpt_ray.pipeline.network_origin import CLASSIFIER_IDS, find_origin, own_encoder_file


def export_generator(run: str, destination: str) -> str:
    """Write a run's generator as a folder; return its URL.

    Raises:
        UserError: there is no such run, or the folder is taken or may not be written.
    """
    destination = stores.absolute_url(destination).rstrip("/")
    check_free(destination)
    origin = find_origin(run, "generator", "generator")
    file = origin.trained.file(NETWORK_FILE)
    sampling = origin.settings.sampling if origin.settings else None
    network = Generator(file, ema_width=sampling.ema_width if sampling else None)
    description = network.description
    if sampling is not None and sampling.ema_width is not None:
        weights = save_network(network.network, description)
        sampling = sampling.model_copy(update={"ema_width": None})
    else:
        weights = stores.read_bytes(file)
    files = {WEIGHTS_FILE: weights}
    if sampling is not None and sampling.guidance_method == "autoguidance":
        name, content = early_file(origin.trained.url, sampling.weak_snapshot)
        files[name] = content
        sampling = sampling.model_copy(update={"weak_snapshot": 1})  # it is the only one there
    files |= _autoencoder_files(description)
    used = sampling or default_sampling(network.knows_null_label)
    settings = GeneratorConfig.model_validate(description["config"])
    config: ExportConfig = {
        "kind": "generator",
        **common_entries(origin, description, network.network, f"{settings.model.name}, process {settings.process}"),
        "image": {"size": origin.trained.settings["image_size"],
                  "channels": origin.trained.settings["channels"]},
        "knows_null_label": network.knows_null_label,
        "sampling": _sampling_entry(used),
        "sampled_in_run": sampling is not None,
        "run_seed": origin.settings.seed if origin.settings else origin.trained.settings["seed"],
        "trained_on": generator_data(origin),
        "metrics": metric_entries(origin, "pseudo_label_accuracy", "pseudo_image_agreement", "frechet_distance"),
    }  # fmt: skip
    return _write(destination, config, files)


def export_uvit(
    file: str,
    destination: str,
    *,
    heads: int | None = None,
    process: str | None = None,
    latents: LatentsConfig | None = None,
) -> str:
    """Write an official U-ViT as a folder; return its URL. Arguments are those of `convert_uvit`.

    Raises:
        UserError: as `convert_uvit`, or the folder is taken or may not be written.
    """
    destination = stores.absolute_url(destination).rstrip("/")
    check_free(destination)
    network, description = convert_uvit(file, heads=heads, process=process, latents=latents)
    settings = GeneratorConfig.model_validate(description["config"])
    default = _sampling_entry(default_sampling(True))
    config: ExportConfig = {
        "kind": "generator",
        "title": stores.without_credentials(file).rpartition("/")[2],
        "architecture": f"{settings.model.name}, process {settings.process}",
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "classes": [str(label) for label in range(description["num_classes"])],
        "network": description,
        "software": {"dpt_ray": __version__},
        "image": _image_form(description),
        "knows_null_label": True,
        "sampling": description.get("sampling", default),
        "sampled_in_run": False,
        "run_seed": 0,
        "imported": {"published_sampling": "sampling" in description},
        "metrics": [],
    }
    weights = save_network(network, description)
    return _write(destination, config, {WEIGHTS_FILE: weights, **_autoencoder_files(description)})


def _sampling_entry(sampling: SamplingConfig) -> SamplingEntry:
    """Return the sampling settings for `config.json`, without those of a run."""
    return cast("SamplingEntry", sampling.model_dump(mode="json", exclude=set(RUN_SETTINGS)))


def _image_form(description: Description) -> ImageEntry:
    """Return the side and the channels of the images that a generator draws."""
    size, channels = description["image_size"], description["channels"]
    if "latents" not in description:
        return {"size": size, "channels": channels}
    form = find_autoencoder(description["latents"]["location"]).form
    return {"size": size * form.downsampling, "channels": form.image_channels}


def _autoencoder_files(description: Description) -> dict[str, bytes]:
    if "latents" not in description:
        return {}
    found = autoencoder_files(description["latents"]["location"])
    return {f"{AUTOENCODER_FOLDER}/{name}": content for name, content in found.items()}


def export_classifier(run: str, destination: str, *, stage: int = 3, onnx: bool = False) -> str:
    """Write a run's classifier as a folder; return its URL.

    Args:
        run: see `find_origin`.
        destination: any URL.
        stage: 1 or 3, of a run.
        onnx: also write an ONNX graph.

    Raises:
        UserError: as `export_generator`, or ONNX's packages are missing.
    """
    destination = stores.absolute_url(destination).rstrip("/")
    check_free(destination)
    origin = find_origin(run, CLASSIFIER_IDS[stage], "classifier")
    file = origin.trained.file(NETWORK_FILE)
    network: Classifier | Probe
    image: ImageEntry
    description: Description
    trained_on = classifier_data(origin)
    if network_kind(file) == "probe":
        network = Probe(file)
        if network.config.encoder == STAGE0:
            network = Probe(file, encoder=own_encoder_file(origin))
        probe, head = network.config, network.head
        files = {f"{ENCODER_FOLDER}/{name}": content for name, content in _encoder_files(network).items()}
        portable = probe.model_copy(update={"encoder": ENCODER_FOLDER})
        files[WEIGHTS_FILE] = head_file(portable, network.temperature, head)
        image = {"size": probe.resize, "channels": 3}
        if isinstance(network.encoder, OwnEncoder):
            image = {"size": network.encoder.image_size, "channels": network.encoder.channels}
        architecture = _ARCHITECTURES[probe.head]
        description = {**network.description, "probe": portable.model_dump(mode="json")}
        trained_on["encoder"] = stores.without_credentials(probe.encoder)
    else:
        network = Classifier(file)
        files, description = {WEIGHTS_FILE: stores.read_bytes(file)}, network.description
        settings = origin.trained.settings
        image = {"size": settings["image_size"], "channels": settings["channels"]}
        architecture = str(description["model"]["name"])
    if origin.index.white is not None:
        image["white"] = origin.index.white
    config: ExportConfig = {
        "kind": description["kind"],
        **common_entries(origin, description, network.graph(), architecture),
        "image": image,
        "trained_on": trained_on,
        "metrics": metric_entries(origin, f"stage{stage}_accuracy"),
    }
    if onnx:
        files |= onnx_files(network.graph(), image, config["classes"])
    return _write(destination, config, files)


_ARCHITECTURES = {
    "logistic": "linear probe on a frozen encoder",
    "propagation": "linear probe on a frozen encoder, fitted to propagated labels",
    "mixture": "Gaussian mixture of a frozen encoder's features",
}


def _write(destination: str, config: ExportConfig, files: dict[str, bytes]) -> str:
    card = model_card(config, files, destination.rsplit("/", 1)[1])
    write_export(destination, files | {CARD_FILE: card.encode()}, config)
    return destination


def _encoder_files(probe: Probe) -> dict[str, bytes]:
    if isinstance(probe.encoder, EfficientNetLite):
        return exported_files(probe.encoder)
    if isinstance(probe.encoder, OwnEncoder):
        return exported_own_encoder(probe.encoder)
    with tempfile.TemporaryDirectory() as folder:
        probe.encoder.model.save_pretrained(folder, max_shard_size="1TB")  # one file, as `open_encoder` fetches it
        (Path(folder) / PROCESSOR).write_text(json.dumps(probe.encoder.scale.to_json()))
        return {file.name: file.read_bytes() for file in sorted(Path(folder).iterdir())}
