"""Statistics of a set of images in the features of a network: moments, sums, and a bounded sample of features."""

from dataclasses import dataclass

from dpt_ray.core.metrics.set_statistics import SetStatistics, decode_statistics
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.step_facts import Facts
from dpt_ray.pipeline.artifacts.store import REMOVE, Artifact

STATISTICS_FILE = "statistics.safetensors"


@dataclass(frozen=True, kw_only=True)
class StatisticsFacts(Facts):
    """The facts of `MeasureFeatures`.

    Attributes:
        images_in: images of the set.
        skipped: those that could not be read.
        images: images whose features were computed.
        feature_size: number of features.
        sampled: images whose features are kept.
    """

    images_in: int
    skipped: tuple[Skipped, ...] = ()
    images: int
    feature_size: int
    sampled: int


def read_statistics(artifact: Artifact) -> SetStatistics:
    """Return the statistics of a `MeasureFeatures`.

    Raises:
        UserError: the file is damaged.
    """
    place = artifact.file(STATISTICS_FILE)
    try:
        return decode_statistics(stores.read_bytes(place), StatisticsFacts.read(artifact).sampled)
    except ValueError as error:
        raise UserError(str(error), where=place, fix=REMOVE) from None
