"""Image sources: rows of shards, or of latents made from them, with the labels that a step may know.

Labels are never read from a shard here. A source has them as class ids or in a sidecar. Without either, every label is
unknown, so a training step cannot see a label by mistake.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.data.images.decoding import ImageForm, decode_images
from dpt_ray.data.images.white_level import Levels
from dpt_ray.data.loading.batches import Columns
from dpt_ray.data.shards.image_ranges import fetch_images, images_differ
from dpt_ray.data.shards.index import DatasetIndex, ShardInfo
from dpt_ray.data.shards.layouts import Layout, find_layout
from dpt_ray.data.shards.salvage import reliable_samples
from dpt_ray.data.shards.samples import Sample, fetch_shard
from dpt_ray.data.shards.sidecars import KEY, read_sidecar, sidecar_name
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.shards.stored_latents import LatentForm, read_latents
from dpt_ray.data.shards.stored_layouts import read_layout
from dpt_ray.data.storage.stores import join
from dpt_ray.errors import UserError

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


def read_shard_samples(shard: ShardInfo) -> list[Sample]:
    """Fetch a shard, compare it with its index, and return its usable samples.

    Raises:
        UserError: the shard is missing, or differs from its index in length, checksum or number of samples.
    """
    return _samples(_fetch(shard), shard)


def _fetch(shard: ShardInfo) -> bytes:
    return fetch_shard(shard.url, size=shard.bytes, checksum=shard.sha256)


def _samples(data: bytes, shard: ShardInfo) -> list[Sample]:
    samples, _ = reliable_samples(data, shard.url)
    if shard.skipped:
        skipped = set(shard.skipped)
        samples = [sample for row, sample in enumerate(samples) if row not in skipped]
    if len(samples) != shard.samples:
        raise UserError(f"holds {len(samples)} samples but its index says {shard.samples}", where=shard.url)
    return samples


def decode_samples(
    samples: Sequence[Sample], form: ImageForm, shard: ShardInfo, out: np.ndarray | None = None
) -> np.ndarray:
    """Decode samples of a shard to uint8 (N, C, H, W), into `out` if it is given.

    Raises:
        UserError: an image cannot be read.
    """
    encoded = [sample.image_bytes(shard.url) for sample in samples]
    return decode_images(encoded, shard.form(form), _names(samples, shard.url), out=out)


OnImages = Callable[[Sequence[int], np.ndarray], object]
"""Receives the numbers of N samples and their images, uint8 (N, C, H, W)."""


def try_samples(
    samples: Sequence[Sample],
    form: ImageForm,
    where: str,
    levels: Levels,
    on_images: OnImages = lambda rows, images: None,
) -> tuple[list[int | None], dict[int, Skipped]]:
    """Decode all samples of a shard, to find those that cannot be used.

    Args:
        samples: the samples.
        form: size and channels of the decoded images.
        where: URL of the shard.
        levels: counts the images whose white level is that of their data set.
        on_images: receives all images. Pixels of unreadable ones are undefined.

    Returns:
        The label of each sample, None where it has none, and a dict from rows that cannot be used to their entries for
        the list of skipped images.
    """
    found: dict[int, Skipped] = {}

    def note(row: int, error: UserError) -> None:
        found[row] = Skipped(where, samples[row].key, error.what)

    encoded = []
    labels: list[int | None] = [None] * len(samples)
    for row, sample in enumerate(samples):
        try:
            labels[row] = sample.label(where)
            encoded.append((row, sample.image_bytes(where)))
        except UserError as error:
            note(row, error)
    for start in range(0, len(encoded), _MOST_DECODED):
        rows, images = zip(*encoded[start : start + _MOST_DECODED], strict=True)
        on_error = lambda place, error, rows=rows: note(rows[place], error)  # noqa: E731
        on_images(rows, decode_images(images, form, lambda place: where, on_error, levels=levels))
    return labels, found


_MOST_DECODED = 256
"""Images that `try_samples` holds decoded at a time."""


def _names(samples: Sequence[Sample], where: str) -> Callable[[int], str]:
    return lambda row: f"{where}: sample {samples[row].key!r}"


Decode = Callable[[Sequence[int], np.ndarray], object]
"""Decodes N rows of a shard, given by their numbers, into an array (N, *form.shape)."""

Allocate = Callable[[int], np.ndarray]
"""Returns the array (N, *form.shape) for the images of the next block, 1 <= N <= the given number of rows."""


def new_arrays(form: ImageForm | LatentForm, most_rows: int) -> Allocate:
    """Return a function that allocates a new array for each block of at most `most_rows` rows."""
    return lambda rows: np.empty((min(rows, most_rows), *form.shape), form.dtype)


HasKeys = Callable[[list[str]], bool]
"""Whether a list equals the keys of a shard's samples, in order."""


def _open_images(shard: SourceShard, form: ImageForm, rows: Sequence[int], whole: bool) -> tuple[HasKeys, Decode]:
    """Fetch images of a shard. Return functions that compare the shard's keys, and that decode some of the images."""
    if not whole and (stored := read_layout(shard.info)) is not None:
        return _open_ranges(shard.info, stored, form, rows)
    data, url = _fetch(shard.info), shard.info.url
    layout = find_layout(data, shard.info)
    if layout is None:
        samples = _samples(data, shard.info)
        return (
            lambda keys: keys == [sample.key for sample in samples],
            lambda rows, out: decode_samples([samples[row] for row in rows], form, shard.info, out),
        )

    def decode(rows: Sequence[int], out: np.ndarray) -> object:
        wanted = list(rows)
        named = lambda place: f"{url}: sample {layout.key(wanted[place])!r}"  # noqa: E731
        return decode_images(layout.images(data, wanted), shard.info.form(form), named, out=out)

    return layout.has_keys, decode


def _open_ranges(shard: ShardInfo, layout: Layout, form: ImageForm, rows: Sequence[int]) -> tuple[HasKeys, Decode]:
    encoded = fetch_images(shard, layout, rows)
    if damaged := [layout.key(row) for row in sorted(set(rows)) if row not in encoded]:
        raise images_differ(shard, damaged)

    def decode(wanted: Sequence[int], out: np.ndarray) -> object:
        named = lambda place: f"{shard.url}: sample {layout.key(wanted[place])!r}"  # noqa: E731
        return decode_images([encoded[row] for row in wanted], shard.form(form), named, out=out)

    return layout.has_keys, decode


def _open_latents(shard: SourceShard, url: str, form: LatentForm, rows: Sequence[int]) -> tuple[HasKeys, Decode]:
    """Read moments. Return functions that compare the keys of all images with those read, and that copy some rows."""
    latents = read_latents(url, form, min(rows), max(rows) + 1)
    if latents.images != shard.info.samples:
        raise UserError(f"holds latents of {latents.images} images but the shard has {shard.info.samples}", where=url)

    def has_keys(others: list[str]) -> bool:
        listed = others[latents.first : latents.first + len(latents.keys)]
        return len(others) == latents.images and listed == latents.keys

    def copy(wanted: Sequence[int], out: np.ndarray) -> object:
        return np.take(latents.moments, np.subtract(wanted, latents.first), axis=0, out=out)

    return has_keys, copy


def read_rows(
    shard: SourceShard,
    wanted: Sequence[int],
    form: ImageForm | LatentForm,
    allocate: Allocate,
    columns: Sequence[str] = (),
    *,
    whole: bool = True,
) -> Iterator[Columns]:
    """Fetch images of a shard once, and yield them with their labels as blocks.

    Args:
        shard: the shard as the source uses it.
        wanted: numbers of rows, each less than `shard.num_rows`, in any order.
        form: size and channels of the decoded images, or the form of their latents.
        allocate: returns the array for the images of each block, whose length is the length of the block.
        columns: names of further columns of the shard's label sidecar.
        whole: fetch the whole shard; otherwise only the images, where the shard has a layout.

    Yields:
        `image`: uint8 (N, C, H, W), or moments (N, *form.shape); `label`: int64 (N,), `UNKNOWN_LABEL` where the source
        has no label; the further columns, (N, ...).

    Raises:
        UserError: the shard or a sidecar is damaged, differs from the index, or they do not match. It is raised before
            the first block, except for an image that cannot be decoded.
    """
    rows = shard.samples_of(wanted)
    if isinstance(form, LatentForm):
        assert shard.latent_sidecar is not None
        has_keys, decode = _open_latents(shard, shard.latent_sidecar, form, rows)
    else:
        has_keys, decode = _open_images(shard, form, rows, whole)
    further: Columns = {}
    if shard.label_sidecar is not None:
        sidecar = read_sidecar(shard.label_sidecar, [LABEL, *columns])
        if not has_keys(sidecar[KEY]):
            raise UserError("does not list the samples of its shard", where=shard.label_sidecar)
        labels = sidecar[LABEL][rows].astype(np.int64)
        further = {name: sidecar[name][rows] for name in columns}
    elif shard.labels is not None:
        labels = np.array(shard.labels_of(wanted), np.int64)
    else:
        labels = np.full(len(rows), UNKNOWN_LABEL, np.int64)
    start = 0
    while start < len(rows):
        images = allocate(len(rows) - start)
        block = slice(start, start + len(images))
        decode(rows[block], images)
        start += len(images)
        yield {IMAGE: images, LABEL: labels[block], **{name: values[block] for name, values in further.items()}}
