"""Export of the networks of runs to folders that load without Ray; see `export/folder.py`."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import nn

from dpt_ray import __version__
from dpt_ray.config.load import parse_dumped
from dpt_ray.config.schema import GeneratorConfig, LatentsConfig, RunConfig, SamplingConfig
from dpt_ray.core.models.efficientnet_lite import EfficientNetLite
from dpt_ray.core.weights import Description, SamplingEntry, save_network
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.export.card import model_card
from dpt_ray.export.folder import (
    AUTOENCODER_FOLDER,
    CARD_FILE,
    ENCODER_FOLDER,
    WEIGHTS_FILE,
    ExportConfig,
    ImageEntry,
    MetricEntry,
    TrainingData,
    check_free,
    write_export,
)
from dpt_ray.export.loaded_generator import default_sampling
from dpt_ray.export.onnx_graph import onnx_files
from dpt_ray.networks.classifier import Classifier
from dpt_ray.networks.files import NETWORK_FILE, network_kind
from dpt_ray.networks.generator import RUN_SETTINGS, Generator
from dpt_ray.networks.pretrained.autoencoders import autoencoder_files, find_autoencoder
from dpt_ray.networks.pretrained.lite_encoder import exported_files
from dpt_ray.networks.probe import Probe, probe_file
from dpt_ray.networks.snapshots import early_file
from dpt_ray.networks.uvit_checkpoint import convert_uvit
from dpt_ray.pipeline.artifacts.dataset import class_names
from dpt_ray.pipeline.artifacts.evaluation import EvaluationFacts, described_metrics
from dpt_ray.pipeline.artifacts.labelled import ChoiceFacts
from dpt_ray.pipeline.artifacts.predictions import PredictionsFacts
from dpt_ray.pipeline.artifacts.pseudo_images import PseudoImagesFacts
from dpt_ray.pipeline.artifacts.run import RUN_FILE, SETTINGS_FILE, read_addresses
from dpt_ray.pipeline.artifacts.run_record import root_of
from dpt_ray.pipeline.artifacts.store import MANIFEST_FILE, Artifact, ArtifactStore, read_artifact, store_of
from dpt_ray.pipeline.artifacts.trained_network import TrainingFacts

CLASSIFIER_IDS = {1: "classifier", 3: "retrained"}
"""Stage -> field of `DualPseudoTraining` that holds its classifier."""


@dataclass(frozen=True)
class Origin:
    """The training that a network comes from, and its run.

    Attributes:
        trained: the artifact of the training.
        name: name of the run, or address of the training.
        settings: settings of the run; None for a training that is exported without a run.
        evaluation: artifact of the run's evaluation; None for a training that is exported without a run.
    """

    trained: Artifact
    name: str
    settings: RunConfig | None = None
    evaluation: Artifact | None = None

    def parent(self, role: str, of: Artifact | None = None) -> Artifact | None:
        """Return a parent of an artifact, by default of the training; None if it has no such parent."""
        child = of or self.trained
        address = child.parent(role)
        if address is None:
            return None
        store = store_of(child)
        found = store.find(*address)
        if found is None:
            place = store.folder(*address)
            raise UserError("is gone, and the export tells from it what was trained on", where=place)
        return found

    def need(self, role: str, of: Artifact | None = None) -> Artifact:
        """Return a parent that the artifact must have.

        Raises:
            UserError: its manifest names none.
        """
        found = self.parent(role, of)
        if found is None:
            raise UserError(f"its manifest names no {role}", where=(of or self.trained).url)
        return found

    @property
    def index(self) -> DatasetIndex:
        """The index of the training images."""
        return read_index(self.need("images").url)


def find_origin(url: str, id: str, step: str) -> Origin:
    """Find the training of a network.

    Args:
        url: the folder of a run (`<root>/runs/<name>`), or of one finished training (`<root>/<step>/<address>`).
        id: field of `DualPseudoTraining` that holds the training in a run.
        step: kind of the training step.

    Raises:
        UserError: the folder holds neither a run nor a training, or a training of another kind.
    """
    url = stores.absolute_url(url).rstrip("/")
    if stores.exists(stores.join(url, RUN_FILE)):
        return _of_run(url, id)
    manifest = stores.join(url, MANIFEST_FILE)
    if not stores.exists(manifest):
        raise UserError(
            f"holds neither a finished run ({RUN_FILE}) nor a finished training ({MANIFEST_FILE})",
            where=url,
            fix="give <root>/runs/<name>, or the folder that dpt train-generator or another command named at its end",
        )
    artifact = read_artifact(url)
    if artifact.step != step:
        raise UserError(f"holds a {artifact.step}, not a {step}", where=url)
    return Origin(artifact, "/".join(url.rsplit("/", 2)[1:]))


def _of_run(url: str, id: str) -> Origin:
    store = ArtifactStore(root_of(url))
    addresses = read_addresses(url)
    place = stores.join(url, SETTINGS_FILE)
    try:
        settings = parse_dumped(stores.read_bytes(place), place)
    except UserError as error:
        raise UserError(f"are no settings that this version reads ({error.what})", where=place) from None

    def find(id: str) -> Artifact:
        step, _, address = addresses.get(id, "").partition("/")
        artifact = store.find(step, address) if address else None
        if artifact is None:
            raise UserError(f"the run's {id} is gone", where=url, fix="dpt run makes it again")
        return artifact

    return Origin(find(id), settings.name, settings, find("evaluation"))


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
        **_common(origin, description, network.network, f"{settings.model.name}, process {settings.process}"),
        "image": {"size": origin.trained.settings["image_size"],
                  "channels": origin.trained.settings["channels"]},
        "knows_null_label": network.knows_null_label,
        "sampling": _sampling_entry(used),
        "sampled_in_run": sampling is not None,
        "run_seed": origin.settings.seed if origin.settings else origin.trained.settings["seed"],
        "trained_on": _generator_data(origin),
        "metrics": _metrics(origin, "pseudo_label_accuracy", "pseudo_image_agreement", "frechet_distance"),
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
    trained_on = _classifier_data(origin)
    if network_kind(file) == "probe":
        network = Probe(file)
        probe, head = network.config, network.head
        files = {f"{ENCODER_FOLDER}/{name}": content for name, content in _encoder_files(network).items()}
        portable = probe.model_copy(update={"encoder": ENCODER_FOLDER})
        files[WEIGHTS_FILE] = probe_file(portable, head.out_features, network.temperature, head.weight)
        image = {"size": probe.resize, "channels": 3}
        architecture = "linear probe on a frozen encoder"
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
        **_common(origin, description, network.graph(), architecture),
        "image": image,
        "trained_on": trained_on,
        "metrics": _metrics(origin, f"stage{stage}_accuracy"),
    }
    if onnx:
        files |= onnx_files(network.graph(), image, config["classes"])
    return _write(destination, config, files)


def _write(destination: str, config: ExportConfig, files: dict[str, bytes]) -> str:
    card = model_card(config, files, destination.rsplit("/", 1)[1])
    write_export(destination, files | {CARD_FILE: card.encode()}, config)
    return destination


def _encoder_files(probe: Probe) -> dict[str, bytes]:
    if isinstance(probe.encoder, EfficientNetLite):
        return exported_files(probe.encoder)
    with tempfile.TemporaryDirectory() as folder:
        probe.encoder.model.save_pretrained(folder, max_shard_size="1TB")  # one file, as `open_encoder` fetches it
        return {file.name: file.read_bytes() for file in sorted(Path(folder).iterdir())}


def _common(origin: Origin, description: Description, network: nn.Module, architecture: str) -> ExportConfig:
    index = origin.index
    data = origin.settings.data if origin.settings else None
    found = index.class_names or tuple(map(str, range(index.num_classes)))
    return {
        "title": origin.name,
        "architecture": architecture,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "classes": list(class_names(data, index.num_classes, index.class_names) if data else found),
        "network": description,
        "artifact": origin.trained.address,
        "software": origin.trained.software,
    }


def _generator_data(origin: Origin) -> TrainingData:
    pseudo_labels = origin.need("pseudo_labels")
    plain = origin.parent("predictions", pseudo_labels)
    teacher = origin.need("classifier", plain or pseudo_labels)
    balanced = ", balanced over the classes" if plain else ""
    true_labels = ChoiceFacts.read(origin.need("labelled", teacher)).images
    return {
        "data": _location(origin),
        "images": origin.index.num_images,
        "true_labels": true_labels,
        "labels": f"pseudo-labels of all images{balanced}, by {_teacher(teacher)} that saw {true_labels:,} true labels",
        "labels_per_class": list(PredictionsFacts.read(pseudo_labels).predicted_per_class),
        "images_seen": _images_seen(origin.trained),
    }


def _classifier_data(origin: Origin) -> TrainingData:
    true_labels = ChoiceFacts.read(origin.need("labelled")).images
    pseudo_images = origin.parent("pseudo_images")
    pseudo = f", and those of {PseudoImagesFacts.read(pseudo_images).images:,} pseudo images" if pseudo_images else ""
    return {
        "data": _location(origin),
        "images": origin.index.num_images,
        "true_labels": true_labels,
        "labels": f"{true_labels:,} true labels{pseudo}; {_teacher(origin.trained)}",
        "labels_per_class": None,
        "images_seen": _images_seen(origin.trained),
    }


def _images_seen(trained: Artifact) -> int | None:
    """Return the images that a network was trained on; None for a probe, which is fitted."""
    if network_kind(trained.file(NETWORK_FILE)) == "probe":
        return None
    return TrainingFacts.read(trained).images_seen


def _teacher(classifier: Artifact) -> str:
    training = classifier.settings.get("training")
    return f"a {training['model']['name']} ({training['algorithm']['name']})" if training else "a linear probe"


def _location(origin: Origin) -> str | None:
    if origin.settings is not None:
        return stores.without_credentials(origin.settings.data.train or "")
    place = origin.need("images").settings.get("location")
    return stores.without_credentials(place) if place else None


def _metrics(origin: Origin, *ids: str) -> list[MetricEntry]:
    if origin.evaluation is None:
        return []
    known = described_metrics(EvaluationFacts.read(origin.evaluation))
    return [{"name": m.name, "value": m.value, "meaning": m.meaning} for m in known if m.id in ids]
