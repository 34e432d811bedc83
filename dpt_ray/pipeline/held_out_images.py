"""Held-out images that a report shows: what stage 3 mends and breaks, and where it is sure and wrong."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch

from dpt_ray.data.images.decoding import ImageForm, decode_image
from dpt_ray.data.loading.source import read_shard_samples
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.evaluation import known_by_all, read_confidence, read_predicted, read_true_labels
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.report.content import ClassifiedImage, ImageList, SampleGrid

LISTED = 10
"""Images of a list that the report shows."""


def held_out_lists(
    data: Artifact, stage1: Artifact, stage3: Artifact, names: Sequence[str], form: ImageForm
) -> tuple[ImageList, ...]:
    """Return the images that stage 3 mends, those that it breaks, and its mistakes, surest first.

    Args:
        data: the held-out images.
        stage1: stage 1's predictions for them.
        stage3: stage 3's predictions for them.
        names: of the classes.
        form: to which the pictures are brought.
    """
    index = read_index(data.url)
    keys, labels = read_true_labels(index)
    first, second, confidence = read_predicted(stage1, keys), read_predicted(stage3, keys), read_confidence(stage3)
    known = known_by_all(labels, first, second)
    was_right, is_right = first == labels, second == labels
    starts = [0, *accumulate(map(len, keys))]

    def listed(title: str, chosen: torch.Tensor) -> ImageList:
        found = torch.nonzero(chosen & known).flatten()
        surest = torch.argsort(confidence[found], descending=True, stable=True)
        rows: list[int] = found[surest][:LISTED].tolist()
        shards = [int(np.searchsorted(starts, row, "right")) - 1 for row in rows]
        places = [(shard, keys[shard][row - starts[shard]]) for shard, row in zip(shards, rows, strict=True)]
        images = [
            ClassifiedImage(
                key=key,
                true=names[int(labels[row])],
                stage1=names[int(first[row])],
                stage3=names[int(second[row])],
                confidence=float(confidence[row]),
            )
            for row, (_, key) in zip(rows, places, strict=True)
        ]
        return ImageList(title, len(found), images, _pictures(index, places, form))

    return (
        listed("Mended by stage 3", ~was_right & is_right),
        listed("Broken by stage 3", was_right & ~is_right),
        listed("Mistakes of stage 3", ~is_right),
    )


def _pictures(index: DatasetIndex, places: Sequence[tuple[int, str]], form: ImageForm) -> SampleGrid | None:
    """Return the images as one row; None if there are none, or one cannot be read any more."""
    pictures = []
    try:
        for number, key in places:
            shard = index.shards[number]
            sample = next((sample for sample in read_shard_samples(shard) if sample.key == key), None)
            if sample is None:
                return None
            pictures.append(decode_image(sample.image_bytes(shard.url), shard.form(form), shard.url))
    except UserError:
        return None
    return SampleGrid(np.stack(pictures)[None], ["surest left"]) if pictures else None
