"""Images that are kept out of training: which rows of which shard, and the index of a part of the training images."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dpt_ray.data.shards.row_bits import decode_rows, encode_rows
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.documents import read_document
from dpt_ray.pipeline.artifacts.step_facts import Facts
from dpt_ray.pipeline.artifacts.store import REMOVE

ROWS_FILE = "rows.json"


@dataclass(frozen=True, kw_only=True)
class DataPartFacts(Facts):
    """The facts of a `DataPart`: its images, its shards, and its images of each class."""

    images: int
    shards: int
    images_per_class: tuple[int, ...]


def write_choice(url: str, held_out: np.ndarray, counts: np.ndarray) -> None:
    """Write which images are held out, in a bit an image of each shard that has some.

    Args:
        url: URL of the file.
        held_out: whether each image is held out, shard by shard, bool (images,).
        counts: images of each shard, int64 (shards,).
    """
    stops = np.cumsum(counts)
    shards = (held_out[start:stop] for start, stop in zip((stops - counts).tolist(), stops.tolist(), strict=True))
    stores.write_json(url, {str(shard): encode_rows(chosen) for shard, chosen in enumerate(shards) if chosen.any()})


def read_choice(url: str) -> Mapping[int, np.ndarray]:
    """Return position of a shard -> its rows with held-out images, ascending, int64 (M,).

    Raises:
        UserError: the file is missing, or not in the form that this package writes.
    """
    choice: dict[int, str] = read_document(url, dict[int, str], "a choice of images", REMOVE)
    return {shard: decode_rows(text, url) for shard, text in choice.items()}
