"""Held-out images that a report shows: where stage 3 is sure and wrong, what it corrects and newly gets wrong."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch

from dpt_ray.data.images.decoding import ImageForm, decode_image
from dpt_ray.data.loading.shard_samples import read_shard_samples
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.evaluation import known_by_all, read_confidence, read_predicted, read_true_labels
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.report.image_content import ClassifiedImage, ImageList, SampleGrid

LISTED = 10
"""Images of a list that the report shows."""
MOST_SHARDS = 64
"""Shards whose images a report looks at; the driver reads them one after another."""


def held_out_lists(
    data: Artifact, stage1: Artifact, stage3: Artifact, names: Sequence[str], form: ImageForm
) -> tuple[ImageList, ...]:
    """Return the mistakes of stage 3, the images that it corrects, and those that it newly gets wrong, surest first.

    The lists are of the images in the first `MOST_SHARDS` shards. Their titles say so where there are more.

    Args:
        data: the held-out images.
        stage1: stage 1's predictions for them.
        stage3: stage 3's predictions for them.
        names: of the classes.
        form: to which the pictures are brought.
    """
    index = read_index(data.url)
    keys, labels = read_true_labels(index, MOST_SHARDS)
    first, second = (read_predicted(stage, keys, MOST_SHARDS) for stage in (stage1, stage3))
    confidence = read_confidence(stage3, MOST_SHARDS)
    among = f", among the first {len(labels):,} images" if len(labels) < index.num_images else ""
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
        pictures = read_pictures(index, places, form)
        grid = SampleGrid(np.stack(pictures)[None], [title]) if pictures else None
        return ImageList(title + among, len(found), images, grid)

    return (
        listed("Most confident mistakes of stage 3", ~is_right),
        listed("Corrected by stage 3", ~was_right & is_right),
        listed("Newly wrong after stage 3", was_right & ~is_right),
    )


def read_pictures(index: DatasetIndex, places: Sequence[tuple[int, str]], form: ImageForm) -> list[np.ndarray] | None:
    """Read images of a data set; each shard is read once.

    Args:
        index: of the data set.
        places: number of the shard and key of each image.
        form: to which the images are brought.

    Returns:
        uint8 (C, H, W) each, in the order of `places`; None if one cannot be read any more.
    """
    found: dict[tuple[int, str], np.ndarray] = {}
    try:
        for number in sorted({number for number, _ in places}):
            shard, wanted = index.shards[number], {key for shard, key in places if shard == number}
            for sample in read_shard_samples(shard):
                if sample.key in wanted:
                    image = decode_image(sample.image_bytes(shard.url), shard.form(form), shard.url)
                    found[number, sample.key] = image
    except UserError:
        return None
    return [found[place] for place in places] if all(place in found for place in places) else None
