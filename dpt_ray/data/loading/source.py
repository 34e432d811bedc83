"""Image sources: rows of shards, or of latents made from them, with the labels that a step may know.

Labels are never read from a shard here. A source has them as class ids or in a sidecar. Without either, every label is
unknown, so a training step cannot see a label by mistake.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.shards.index import DatasetIndex, ShardInfo
from dpt_ray.data.shards.sidecars import sidecar_name
from dpt_ray.data.shards.stored_latents import LatentForm
from dpt_ray.data.storage.stores import join

IMAGE, LABEL, CONFIDENCE = "image", "label", "confidence"
TOP_CLASSES, TOP_PROBABILITIES = "top_classes", "top_probabilities"
"""Names of columns. Only sources that name it in `columns` have the last one."""


@dataclass(frozen=True)
class SourceShard:
    """One shard as a source uses it.

    Attributes:
        info: the shard's entry in the index.
        rows: numbers of the samples that the source uses, a tuple or `Integers`; None for all.
        labels: class id of each used row; None if labels are unknown or in a sidecar.
        label_sidecar: URL of a sidecar with the column `label` and the source's further columns, for every sample of
            the shard.
        latent_sidecar: URL of a sidecar whose moments are read instead of the shard's images.
    """

    info: ShardInfo
    rows: Sequence[int] | None = None
    labels: Sequence[int] | None = None
    label_sidecar: str | None = None
    latent_sidecar: str | None = None

    @property
    def url(self) -> str:
        """URL of the file with the images or their latents."""
        return self.latent_sidecar or self.info.url

    @property
    def num_rows(self) -> int:
        """Number of images that the source uses of this shard."""
        return self.info.samples if self.rows is None else len(self.rows)

    def samples_of(self, rows: Sequence[int]) -> list[int]:
        """Return the numbers of samples of the shard, given those of rows of the source in it."""
        return list(rows) if self.rows is None else [self.rows[row] for row in rows]

    def labels_of(self, rows: Sequence[int]) -> list[int]:
        """Return the class ids of rows of the source in this shard, which has them."""
        assert self.labels is not None
        return [self.labels[row] for row in rows]


@dataclass(frozen=True)
class ImageSource:
    """An image source of a training step.

    Attributes:
        shards: the shards, in the order in which the source numbers its images.
        form: size and channels of the decoded images, or the form of their latents.
        columns: names of further columns of the label sidecars, which hold numbers, one or several for each image.
        num_images: number of images in all shards.
    """

    shards: tuple[SourceShard, ...]
    form: ImageForm | LatentForm
    columns: tuple[str, ...] = ()
    num_images: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_images", sum(shard.num_rows for shard in self.shards))

    @property
    def counts(self) -> list[int]:
        """Number of images in each shard."""
        return [shard.num_rows for shard in self.shards]

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return len(self.shards)

    def shard(self, number: int, rows: Sequence[int] = ()) -> SourceShard:
        """Return a shard; `rows` of it are read, and a `SegmentSource` may know no others."""
        return self.shards[number]

    @property
    def has_layouts(self) -> bool:
        """Whether images can be fetched without the rest of their shards."""
        return all(shard.info.layouts is not None for shard in self.shards)

    @property
    def decoded_bytes(self) -> int:
        """Bytes of all decoded images."""
        return self.num_images * self.form.num_bytes

    def __add__(self, other: "ImageSource") -> "ImageSource":
        """Return the union of two sources of one form."""
        return ImageSource(self.shards + other.shards, self.form, self.columns)


def unlabelled_source(index: DatasetIndex, form: ImageForm) -> ImageSource:
    """Return a source of every image of a data set, without labels."""
    return ImageSource(tuple(SourceShard(shard) for shard in index.shards), form)


def sidecar_labelled_source(
    index: DatasetIndex, folder: str, form: ImageForm, columns: tuple[str, ...] = ()
) -> ImageSource:
    """Return a source of every image of a data set, with the labels and further `columns` of sidecars in `folder`."""
    shards = (
        SourceShard(shard, label_sidecar=join(folder, sidecar_name(position)))
        for position, shard in enumerate(index.shards)
    )
    return ImageSource(tuple(shards), form, columns)


def sidecar_latent_source(
    index: DatasetIndex, labels: str | None, latents: str, form: LatentForm, columns: tuple[str, ...] = ()
) -> ImageSource:
    """Return a source of every image's latent.

    Args:
        index: the data set.
        labels: URL of the folder of sidecars with labels and further columns; None for no labels.
        latents: URL of the folder of sidecars with moments.
        form: the form of the latents.
        columns: names of the further columns.
    """
    shards = (
        SourceShard(
            shard,
            label_sidecar=None if labels is None else join(labels, sidecar_name(position)),
            latent_sidecar=join(latents, sidecar_name(position)),
        )
        for position, shard in enumerate(index.shards)
    )
    return ImageSource(tuple(shards), form, columns)
