"""What `config.json` of an export says about the network: its training data, its run and its metrics."""

from torch import nn

from dpt_ray.core.weights import Description
from dpt_ray.data.storage import stores
from dpt_ray.export.folder import ExportConfig, MetricEntry, TrainingData
from dpt_ray.networks.files import NETWORK_FILE, network_kind
from dpt_ray.pipeline.artifacts.dataset import class_names
from dpt_ray.pipeline.artifacts.evaluation import EvaluationFacts, described_metrics
from dpt_ray.pipeline.artifacts.labelled import ChoiceFacts
from dpt_ray.pipeline.artifacts.predictions import PredictionsFacts
from dpt_ray.pipeline.artifacts.pseudo_images import PseudoImagesFacts
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.artifacts.trained_network import TrainingFacts
from dpt_ray.pipeline.network_origin import Origin


def common_entries(origin: Origin, description: Description, network: nn.Module, architecture: str) -> ExportConfig:
    """Return the entries that exports of all kinds have."""
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


def generator_data(origin: Origin) -> TrainingData:
    """Return what a generator was trained on."""
    given = origin.need("pseudo_labels")
    pseudo_labels = origin.parent("pseudo_labels", given) or given  # those before `stage2.conditioning` changed them
    changed = "" if pseudo_labels is given else ", changed by stage2.conditioning"
    plain = origin.parent("predictions", pseudo_labels)
    teacher = origin.need("classifier", plain or pseudo_labels)
    changed = (", balanced over the classes" if plain else "") + changed
    true_labels = ChoiceFacts.read(origin.need("labelled", teacher)).images
    return {
        "data": _location(origin),
        "images": origin.index.num_images,
        "true_labels": true_labels,
        "labels": f"pseudo-labels of all images{changed}, by {_teacher(teacher)} that saw {true_labels:,} true labels",
        "labels_per_class": list(PredictionsFacts.read(pseudo_labels).predicted_per_class),
        "images_seen": _images_seen(origin.trained),
    }


def classifier_data(origin: Origin) -> TrainingData:
    """Return what a classifier was trained on."""
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
    if training:
        return f"a {training['model']['name']} ({training['algorithm']['name']})"
    return _PROBES[classifier.settings.get("probe", {}).get("head", "logistic")]


_PROBES = {
    "logistic": "a linear probe",
    "propagation": "label propagation on features",
    "mixture": "a mixture of features",
}


def _location(origin: Origin) -> str | None:
    if origin.settings is not None:
        return stores.without_credentials(origin.settings.data.train or "")
    place = origin.need("images").settings.get("location")
    return stores.without_credentials(place) if place else None


def metric_entries(origin: Origin, *ids: str) -> list[MetricEntry]:
    """Return the metrics of these ids from the run's evaluation; none without a run."""
    if origin.evaluation is None:
        return []
    known = described_metrics(EvaluationFacts.read(origin.evaluation))
    return [{"name": m.name, "value": m.value, "meaning": m.meaning} for m in known if m.id in ids]
