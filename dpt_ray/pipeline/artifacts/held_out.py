"""Images that are kept out of training: which rows of which shard, and the index of a part of the training images."""

from collections.abc import Mapping
from dataclasses import dataclass

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


def read_choice(url: str) -> Mapping[int, list[int]]:
    """Return position of a shard -> its rows with validation images.

    Raises:
        UserError: the file is missing, or not in the form that this package writes.
    """
    choice: dict[int, list[int]] = read_document(url, dict[int, list[int]], "a choice of images", REMOVE)
    return choice
