"""What a classifier that is still being trained predicts for the images whose class it is given, as one picture."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from dpt_ray.data.loading.read_rows import new_arrays, read_rows
from dpt_ray.data.loading.source import IMAGE, LABEL, ImageSource
from dpt_ray.networks.classifier import Classifier
from dpt_ray.networks.files import open_content

MAX_IMAGES, MAX_SHARDS = 512, 16
"""Few images of few shards: a picture costs less than a second of a training on a GPU."""


def few_shards(source: ImageSource) -> ImageSource:
    """Return a source of some shards, evenly spaced, which `draw_confusion` takes."""
    used = [shard for shard in source.shards if shard.num_rows]
    return replace(source, shards=tuple(used[place] for place in _evenly(len(used), MAX_SHARDS)))


def draw_confusion(network: bytes, source: ImageSource, names: Sequence[str] | None) -> bytes:
    """Return a PNG picture of a classifier's confusion matrix on images that it is trained on.

    No other label is read: one that training does not have cannot reach it through a picture.

    Args:
        network: content of the classifier's file.
        source: few training images with labels; in stage 3, pseudo images are among them.
        names: name of each class, by id; None if the ids are the names.

    Raises:
        UserError: an image cannot be read.
    """
    from dpt_ray.report.confusion_picture import confusion_png  # Matplotlib loads slowly

    classifier = open_content(Classifier, network)
    images, labels = _sample(source)
    probabilities, _ = classifier(torch.from_numpy(images))
    classes = names or [str(label) for label in range(probabilities.shape[1])]
    caption = f"{len(labels)} of the labelled training images"
    return confusion_png(labels, probabilities.argmax(1).numpy(), classes, caption)


def _sample(source: ImageSource) -> tuple[np.ndarray, np.ndarray]:
    """Return images, uint8 (N, C, H, W), and their labels, int64 (N,), evenly spaced within each shard."""
    of_shard = max(1, MAX_IMAGES // len(source.shards))
    blocks = [
        block
        for shard in source.shards
        for block in read_rows(
            shard,
            _evenly(shard.num_rows, of_shard),
            source.form,
            new_arrays(source.form, of_shard),
            source.columns,
            whole=False,
        )
    ]
    return np.concatenate([block[IMAGE] for block in blocks]), np.concatenate([block[LABEL] for block in blocks])


def _evenly(size: int, most: int) -> list[int]:
    """Return at most `most` numbers below `size`, evenly spaced, ascending."""
    return [int(place) for place in np.unique(np.linspace(0, size - 1, min(size, most)).round())]
