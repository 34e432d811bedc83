"""The facts of an indexed data set."""

from collections.abc import Sequence
from dataclasses import dataclass

from dpt_ray.config.data_section import DataConfig
from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.images.white_level import WhiteLevel
from dpt_ray.data.importing.classes import given_classes
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage.json_records import optional
from dpt_ray.pipeline.artifacts.step_facts import Facts, ShardFile

NO_LABEL = -1


@dataclass(frozen=True)
class PassedOver:
    """Members of shards that belong to no image.

    Attributes:
        members: their number.
        first: name and reason of the first of them.
    """

    members: int = 0
    first: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class DatasetFacts(Facts):
    """The facts of a `Dataset`.

    Attributes:
        images: images in the index.
        shards: shards in the index.
        bytes: size of all shards.
        images_per_class: images of each class; those without a label are in none.
        class_names: names of the classes; None if the data does not name them.
        levels: the white level; None if no image has more than 8 bits.
        passed_over: members of shards that belong to no image.
        repeated_images: images that have the pixels of another one.
        without_perceptual_hash: images that are too small or too plain to compare.
        images_in: images in the shards.
        skipped: those that cannot be used.
    """

    images: int
    shards: int
    bytes: int
    images_per_class: tuple[int, ...]
    class_names: tuple[str, ...] | None
    levels: WhiteLevel | None = None
    passed_over: PassedOver = PassedOver()
    repeated_images: int = 0
    without_perceptual_hash: int = 0
    images_in: int = 0
    skipped: tuple[Skipped, ...] = ()

    @property
    def unlabelled(self) -> int:
        """Images without a label."""
        return self.images - sum(self.images_per_class)


@dataclass(frozen=True, kw_only=True)
class IndexedShard(ShardFile):
    """What a worker reports of one shard; `url` is that of its sidecar.

    Attributes:
        shard_bytes: size of the shard; None for one that cannot be used.
        shard_sha256: its checksum in hexadecimal digits; None for one that cannot be used.
        samples: usable samples; None for a shard that cannot be used.
        without_perceptual_hash: images that are too small or too plain to compare.
        rows_out: samples that cannot be used, by their place in the shard.
        deep: number of images of more than 8 bits, and the largest value in them.
        passed_over: number of members that belong to no image; name and reason of the first of them.
        largest_id: the largest class id and the key of a sample that has it; None without labels.
        class_counts: images of each class; see `label_counts.py`.
        classes_out: class ids of samples that cannot be used.
    """

    shard_bytes: int | None = optional()
    shard_sha256: str | None = optional()
    samples: int | None = optional()
    without_perceptual_hash: int = 0
    rows_out: tuple[int, ...] = ()
    deep: tuple[int, int] = (0, 0)
    passed_over: tuple[int, tuple[tuple[str, str], ...]] = (0, ())
    largest_id: tuple[int, str] | None = None
    class_counts: str = ""
    classes_out: tuple[int, ...] = ()


def class_names(data: DataConfig, num_classes: int, found: Sequence[str] | None) -> tuple[str, ...]:
    """Return the name of each class: from the settings, otherwise from `found` in the data, otherwise its id."""
    given = given_classes(data)
    return given.names if given else tuple(found or map(str, range(num_classes)))


def image_form(data: DataConfig) -> ImageForm:
    """Return the size and the channels to which images are decoded."""
    return ImageForm(data.image_size, data.channels, data.max_image_pixels)


def say_passed_over(passed_over: PassedOver) -> str:
    """Return in words which members of shards belong to no image; an empty text if there are none."""
    if not passed_over.members:
        return ""
    name, reason = passed_over.first[0]
    return f"{passed_over.members:,} members of shards passed over, first {name} ({reason})"
