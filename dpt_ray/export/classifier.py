"""A classifier from an exported folder, without Ray."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dpt_ray.data import stores
from dpt_ray.data.images import ImageForm, decode_images
from dpt_ray.data.networks import Classifier, Probe
from dpt_ray.errors import UserError
from dpt_ray.export.devices import usable_device
from dpt_ray.export.folder import ENCODER_FOLDER, WEIGHTS_FILE, read_export

CLASSIFIER_KINDS = ("classifier", "probe")
"""Trained from scratch, or linear on the features of a frozen encoder."""


class LoadedClassifier:
    """A trained classifier.

    Attributes:
        classes: what each class is called, in the order of ids.
        image_shape: (C, H, W) of the images that it classifies.
        config: what `config.json` says of it: training, data, metrics.
    """

    def __init__(self, network: Classifier | Probe, form: ImageForm, config: dict[str, Any]):
        self.network, self._form = network, form
        self.classes, self.image_shape, self.config = tuple(config["classes"]), form.shape, config

    def read(self, urls: Sequence[str]) -> Tensor:
        """Return image files of any URL as uint8 (N, C, H, W), brought to the classifier's form as in training.

        Raises:
            UserError: one cannot be read, or is no image.
        """
        encoded = [stores.read_bytes(url) for url in urls]
        return torch.from_numpy(decode_images(encoded, self._form, lambda number: urls[number]))

    def probabilities(self, images: Tensor, batch: int = 256) -> Tensor:
        """Return class probabilities, float32 (N, num_classes) on the CPU, of uint8 images (N, C, H, W).

        Raises:
            UserError: images of another form.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1:] != self.image_shape:
            got = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
            wanted = ", ".join(map(str, self.image_shape))
            raise UserError(
                f"images must be uint8 (N, {wanted}), not {got}", fix="classifier.read(files) makes them so"
            )
        if not len(images):
            return torch.empty(0, len(self.classes))
        return torch.cat([self.network(part)[0] for part in images.split(batch)])

    def predict(self, images: Tensor, batch: int = 256) -> Tensor:
        """Return the most probable class ids, int64 (N,); see `probabilities`."""
        return self.probabilities(images, batch).argmax(dim=1)


def load_classifier(url: str, device: str | None = None) -> LoadedClassifier:
    """Load a classifier; see `dpt_ray.load_classifier`."""
    device = usable_device(device)
    config = read_export(url, CLASSIFIER_KINDS)
    file, checksum = stores.join(url, WEIGHTS_FILE), config["files"][WEIGHTS_FILE]["sha256"]
    network: Classifier | Probe
    if config["kind"] == "probe":
        network = Probe(file, device, encoder=stores.join(url, ENCODER_FOLDER), checksum=checksum)
    else:
        network = Classifier(file, device, checksum=checksum)
    try:
        form = ImageForm(int(config["image"]["size"]), int(config["image"]["channels"]))
        if len(config["classes"]) != network.description["num_classes"]:
            raise ValueError(f"{len(config['classes'])} classes are named")
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"its config.json does not fit ({error})", where=url, fix="copy or export it again") from None
    return LoadedClassifier(network, form, config)
