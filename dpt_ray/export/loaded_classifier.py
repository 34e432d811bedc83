"""Loading an exported classifier, without Ray."""

import os
from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dpt_ray.data.images.decoding import ImageForm, decode_images
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.export.arguments import as_url, as_urls, as_whole_number
from dpt_ray.export.devices import usable_device
from dpt_ray.export.folder import ENCODER_FOLDER, WEIGHTS_FILE, ExportConfig, read_export
from dpt_ray.export.image_arguments import as_images
from dpt_ray.networks.classifier import Classifier
from dpt_ray.networks.probe import Probe

Path = str | os.PathLike[str]
Images = Tensor | np.ndarray | Image.Image

CLASSIFIER_KINDS = ("classifier", "probe")
"""Kinds of exported classifiers: a network trained from scratch, and a linear probe on a frozen encoder."""


class LoadedClassifier:
    """A trained classifier.

    Attributes:
        classes: name of each class, by id.
        image_shape: (C, H, W) of the images that it classifies.
        form: size and channels to which images are converted.
        config: content of `config.json`: training, data, metrics.
    """

    def __init__(self, network: Classifier | Probe, form: ImageForm, config: ExportConfig):
        self.network, self.form = network, form
        self.classes, self.image_shape, self.config = tuple(config["classes"]), form.shape, config

    def read(self, urls: Path | Iterable[Path]) -> Tensor:
        """Read image files as uint8 (N, C, H, W), resized and cropped as in training.

        Args:
            urls: one or several paths or URLs.

        Raises:
            TypeError: `urls` is of another type.
            UserError: a file cannot be read, or is no image.
        """
        places = as_urls(urls, "urls")
        encoded = [stores.read_bytes(place) for place in places]
        return torch.from_numpy(decode_images(encoded, self.form, lambda number: places[number]))

    def probabilities(self, images: Images | Iterable[Images], batch: int = 256) -> Tensor:
        """Return class probabilities, float32 (N, num_classes) on the CPU.

        Args:
            images: a uint8 array (N, C, H, W) of torch or NumPy, with the classifier's `image_shape`. Channels may be
                the last dimension; N may be omitted for one image, and C for grey images. Or an image of Pillow, which
                is converted like a file. Or a list of single images.
            batch: number of images in a forward pass; bounds memory.

        Raises:
            TypeError: `images` is of another type.
            UserError: the images have another shape or dtype, or cannot be decoded.
        """
        size = as_whole_number(batch, "batch", least=1)
        rows = as_images(images, self.form)
        if not len(rows):
            return torch.empty(0, len(self.classes))
        return torch.cat([self.network(part)[0] for part in rows.split(min(size, len(rows)))])

    def predict(self, images: Images | Iterable[Images], batch: int = 256) -> Tensor:
        """Return the most probable class ids, int64 (N,); arguments and errors are those of `probabilities`."""
        return self.probabilities(images, batch).argmax(dim=1)


def load_classifier(url: Path, device: str | torch.device | int | None = None) -> LoadedClassifier:
    """Load a classifier; see `dpt_ray.load_classifier`."""
    url = as_url(url, "url")
    device = usable_device(device)
    config = read_export(url, CLASSIFIER_KINDS)
    file, checksum = stores.join(url, WEIGHTS_FILE), config["files"][WEIGHTS_FILE]["sha256"]
    network: Classifier | Probe
    if config["kind"] == "probe":
        network = Probe(file, device, encoder=stores.join(url, ENCODER_FOLDER), checksum=checksum)
    else:
        network = Classifier(file, device, checksum=checksum)
    try:
        image, white = config["image"], config["image"].get("white")
        form = ImageForm(int(image["size"]), int(image["channels"]), white=None if white is None else int(white))
        if len(config["classes"]) != network.description["num_classes"]:
            raise ValueError(f"{len(config['classes'])} classes are named")
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"its config.json does not fit ({error})", where=url, fix="copy or export it again") from None
    return LoadedClassifier(network, form, config)
