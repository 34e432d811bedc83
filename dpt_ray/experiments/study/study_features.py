"""Features of training and held-out images with all their true labels, by which a study judges the heads of a probe."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpt_ray.core.models.efficientnet_lite import LITE
from dpt_ray.core.probe.normalisation import normalise_rows
from dpt_ray.data.importing.digits import Split, digit_numbers, read_digits
from dpt_ray.data.importing.import_plan import RawImage, RowRange
from dpt_ray.data.loading.source import LABEL
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.sidecar_urls import label_sidecars
from dpt_ray.data.shards.sidecars import KEY, read_sidecar
from dpt_ray.errors import UserError
from dpt_ray.networks.pretrained.encoders import located, open_encoder
from dpt_ray.pipeline.artifacts.features import FEATURES, features_urls
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.classifier_steps import encode, own_encoder
from dpt_ray.pipeline.graph import make_all
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.run_settings import load_run
from dpt_ray.pipeline.splits import test_split

SIDE = 96
"""Height and width in pixels to which digits of 8 x 8 are enlarged for the encoder, which learned from photographs."""
_BATCH = 64


@dataclass(frozen=True)
class StudyFeatures:
    """Normalised features, float32 (N, D), and true labels, int64 (N,), of training and held-out images.

    Attributes:
        train: features of training images.
        labels: their labels.
        test: features of held-out images.
        test_labels: their labels.
        num_classes: number of classes.
    """

    train: Tensor
    labels: np.ndarray
    test: Tensor
    test_labels: np.ndarray
    num_classes: int


def with_unequal_classes(images: StudyFeatures, ratio: float) -> StudyFeatures:
    """Return some of the images, so that their number falls from class to class by the same factor.

    Args:
        images: the images.
        ratio: how many times the share of the last class the first one keeps, which keeps all images; at least 1.
    """
    kept = ratio ** (-np.arange(images.num_classes) / max(1, images.num_classes - 1))

    def rows(labels: np.ndarray) -> np.ndarray:
        members = [np.flatnonzero(labels == label) for label in range(images.num_classes)]
        parts = [of_class[: round(len(of_class) * share)] for of_class, share in zip(members, kept, strict=True)]
        return np.sort(np.concatenate(parts))

    train, test = rows(images.labels), rows(images.test_labels)
    return StudyFeatures(
        images.train[torch.from_numpy(train)],
        images.labels[train],
        images.test[torch.from_numpy(test)],
        images.test_labels[test],
        images.num_classes,
    )


def data_features(config: str, overrides: Sequence[str], say: Callable[[str], None]) -> StudyFeatures:
    """Return features of the data of some settings by `stage1.probe.encoder`. They are kept as artifacts below `root`.

    The encoder `stage0` is trained on the training images first.

    Args:
        config: YAML settings.
        overrides: settings `a.b=c`, stronger than the file.
        say: called with a line for each step.

    Raises:
        UserError: the settings are wrong, the data or the encoder cannot be read, or an image has no label.
    """
    inputs = Inputs()
    loaded = load_run(config, overrides, inputs=inputs).config
    split = test_split(loaded, inputs)
    probe = located(loaded.stage1.probe)
    own = own_encoder(loaded, split.train_data)
    steps = [encode(probe, loaded.data, images, inputs, own) for images in (split.train_data, split.held_out)]
    made = make_all([*steps], ArtifactStore(loaded.root), loaded.cluster, say)
    (train, labels), (test, test_labels) = (_read_encoded(made[step.parents["images"]], made[step]) for step in steps)
    return StudyFeatures(train, labels, test, test_labels, read_index(made[split.train_data].url).num_classes)


def _read_encoded(images: Artifact, encoded: Artifact) -> tuple[Tensor, np.ndarray]:
    """Return the normalised features and the true labels of a set."""
    features, labels = [], []
    true = label_sidecars(read_index(images.url))
    for number, url in enumerate(features_urls(encoded)):
        label_url = true[number]
        if url is None or label_url is None:
            continue
        found, given = read_sidecar(url, [FEATURES]), read_sidecar(label_url, [LABEL])
        if list(found[KEY]) != list(given[KEY]):
            raise UserError("holds other images than the labels", where=url, fix="remove its folder and start again")
        features.append(normalise_rows(torch.from_numpy(np.array(found[FEATURES]))))
        labels.append(np.asarray(given[LABEL], np.int64))
    joined = np.concatenate(labels)
    if (joined < 0).any():
        raise UserError(
            f"{int((joined < 0).sum()):,} images have no label, and a study judges by all", where=images.url
        )
    return torch.cat(features), joined


def digits_features(kind: str) -> StudyFeatures:
    """Return features of the embedded digits.

    Args:
        kind: "encoder" for EfficientNet-Lite0, or "pixels".

    Raises:
        UserError: the weights of the encoder are not installed.
    """
    (train, labels), (test, test_labels) = (_read_digits("train"), _read_digits("test"))
    classes = int(labels.max()) + 1
    return StudyFeatures(_features(kind, train), labels, _features(kind, test), test_labels, classes)


def _features(kind: str, images: Tensor) -> Tensor:
    return normalise_rows(_encode(images) if kind == "encoder" else images.flatten(1).float())


def _read_digits(split: Split) -> tuple[Tensor, np.ndarray]:
    """Return the digits of a split, uint8 (N, 1, 8, 8), and their classes."""
    recipe = RowRange(len(digit_numbers(split)), 0, len(digit_numbers(split))).to_json()
    images = list(_images(read_digits({"split": split}, recipe)))
    return torch.from_numpy(np.stack([image.data for image in images])), np.array([image.label for image in images])


def _images(found: Iterator[object]) -> Iterator[RawImage]:
    return (image for image in found if isinstance(image, RawImage))


def _encode(images: Tensor) -> Tensor:
    encoder = open_encoder(LITE, crop=SIDE, blocks=1)
    parts = []
    for batch in images.split(_BATCH):
        large = torch.nn.functional.interpolate(batch.float(), (SIDE, SIDE), mode="bicubic").round().clamp(0, 255)
        parts.append(encoder(large.byte().expand(-1, 3, -1, -1)))
    return torch.cat(parts)
