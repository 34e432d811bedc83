"""What a step reads: some rows of some shards, with the labels that the step may know.

Labels never come out of a shard here. A source is given them, as numbers or as a sidecar to join;
without either every label reads as unknown. So a training step cannot see a label by mistake.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from dpt_ray.core.batch import UNKNOWN_LABEL
from dpt_ray.data.images import decode_image
from dpt_ray.data.index import DatasetIndex, ShardInfo
from dpt_ray.data.shards import Sample, fetch_shard, iter_samples
from dpt_ray.data.sidecars import KEY, read_sidecar, sidecar_name
from dpt_ray.data.stores import join
from dpt_ray.errors import UserError

LABEL = "label"


@dataclass(frozen=True)
class SourceShard:
    """One shard as a source uses it.

    Attributes:
        info: what the index says of the shard.
        rows: which of its samples; None is all.
        labels: class id of each used row; None if unknown or from a sidecar.
        label_sidecar: URL of a sidecar whose `label` column labels every sample of the shard.
    """

    info: ShardInfo
    rows: tuple[int, ...] | None = None
    labels: tuple[int, ...] | None = None
    label_sidecar: str | None = None

    @property
    def num_rows(self) -> int:
        """Images that the source takes from this shard."""
        return self.info.samples if self.rows is None else len(self.rows)


@dataclass(frozen=True)
class ImageSource:
    """An image source of a training step: shards, and the form that images are brought to."""

    shards: tuple[SourceShard, ...]
    image_size: int
    channels: int
    num_images: int = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "num_images", sum(shard.num_rows for shard in self.shards))

    @property
    def counts(self) -> list[int]:
        """Images of each shard."""
        return [shard.num_rows for shard in self.shards]

    @property
    def decoded_bytes(self) -> int:
        """Bytes of all images once decoded."""
        return self.num_images * self.channels * self.image_size**2

    def __add__(self, other: "ImageSource") -> "ImageSource":
        """The union of two sources."""
        return ImageSource(self.shards + other.shards, self.image_size, self.channels)


def unlabelled_source(index: DatasetIndex, image_size: int, channels: int) -> ImageSource:
    """Every image of a data set, all labels unknown."""
    return ImageSource(tuple(SourceShard(shard) for shard in index.shards), image_size, channels)


def sidecar_labelled_source(index: DatasetIndex, folder: str, image_size: int, channels: int) -> ImageSource:
    """Every image of a data set, labelled by the `label` column of the sidecars in `folder`."""
    shards = (
        SourceShard(shard, label_sidecar=join(folder, sidecar_name(position)))
        for position, shard in enumerate(index.shards)
    )
    return ImageSource(tuple(shards), image_size, channels)


def read_shard_samples(shard: ShardInfo) -> list[Sample]:
    """Fetch a shard, check it against its index and return its samples.

    Raises:
        UserError: it differs from its index in length, checksum or number of samples, or is damaged.
    """
    data = fetch_shard(shard.url, size=shard.bytes, checksum=shard.sha256)
    samples = list(iter_samples(data, shard.url))
    if len(samples) != shard.samples:
        raise UserError(f"holds {len(samples)} samples but its index says {shard.samples}", where=shard.url)
    return samples


def decode_samples(samples: Sequence[Sample], *, image_size: int, channels: int, where: str) -> np.ndarray:
    """Decode samples to uint8, (N, channels, image_size, image_size)."""
    decode = partial(decode_image, size=image_size, channels=channels)
    images = np.empty((len(samples), channels, image_size, image_size), np.uint8)
    for image, sample in zip(images, samples, strict=True):
        image[:] = decode(sample.image_bytes(where), where=f"{where}: sample {sample.key!r}")
    return images


def read_rows(shard: SourceShard, start: int, stop: int, *, image_size: int, channels: int) -> dict[str, np.ndarray]:
    """Read rows [start, stop) of a source's shard.

    Returns:
        `image`: uint8 (N, C, H, W); `label`: int64 (N,), `UNKNOWN_LABEL` where the source gives none.

    Raises:
        UserError: the shard or its sidecar is damaged, differs from its index, or doesn't match.
    """
    samples = read_shard_samples(shard.info)
    rows = range(start, stop) if shard.rows is None else shard.rows[start:stop]
    chosen = [samples[row] for row in rows]
    images = decode_samples(chosen, image_size=image_size, channels=channels, where=shard.info.url)
    if shard.label_sidecar is not None:
        sidecar = read_sidecar(shard.label_sidecar, [LABEL])
        if sidecar[KEY] != [sample.key for sample in samples]:
            raise UserError("does not list the samples of its shard", where=shard.label_sidecar)
        labels = sidecar[LABEL][list(rows)].astype(np.int64)
    elif shard.labels is not None:
        labels = np.asarray(shard.labels[start:stop], np.int64)
    else:
        labels = np.full(len(chosen), UNKNOWN_LABEL, np.int64)
    return {"image": images, LABEL: labels}
