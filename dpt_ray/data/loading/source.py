"""What a step reads: some rows of some shards, or of the latents made of them, with the labels that it may know.

Labels never come out of a shard here. A source is given them, as numbers or as a sidecar to join;
without either every label reads as unknown. So a training step cannot see a label by mistake.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.data.images.decoding import ImageForm, decode_images
from dpt_ray.data.images.white_level import Levels
from dpt_ray.data.loading.batches import Columns
from dpt_ray.data.loading.order import Segment
from dpt_ray.data.shards.index import DatasetIndex, ShardInfo
from dpt_ray.data.shards.layouts import find_layout
from dpt_ray.data.shards.salvage import reliable_samples
from dpt_ray.data.shards.samples import Sample, fetch_shard
from dpt_ray.data.shards.sidecars import KEY, read_sidecar, sidecar_name
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.shards.stored_latents import LatentForm, read_latents
from dpt_ray.data.storage.stores import join
from dpt_ray.errors import StoreFailureError, UserError

IMAGE, LABEL, CONFIDENCE = "image", "label", "confidence"
"""Columns of what is read; the last only where a source asks for it."""


@dataclass(frozen=True)
class SourceShard:
    """One shard as a source uses it.

    Attributes:
        info: what the index says of the shard.
        rows: which of its samples; None is all.
        labels: class id of each used row; None if unknown or from a sidecar.
        label_sidecar: URL of a sidecar whose `label` column labels every sample of the shard; it has the source's
            further columns too.
        latent_sidecar: URL of a sidecar whose moments are read in the place of the shard's images.
    """

    info: ShardInfo
    rows: tuple[int, ...] | None = None
    labels: tuple[int, ...] | None = None
    label_sidecar: str | None = None
    latent_sidecar: str | None = None

    @property
    def url(self) -> str:
        """What is read for the images."""
        return self.latent_sidecar or self.info.url

    @property
    def num_rows(self) -> int:
        """Images that the source takes from this shard."""
        return self.info.samples if self.rows is None else len(self.rows)


@dataclass(frozen=True)
class ImageSource:
    """An image source of a training step.

    Attributes:
        shards: what is read.
        form: what images are brought to, or what their latents are.
        columns: further columns of the shards' sidecars, numbers, that come with the images.
    """

    shards: tuple[SourceShard, ...]
    form: ImageForm | LatentForm
    columns: tuple[str, ...] = ()
    num_images: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_images", sum(shard.num_rows for shard in self.shards))

    @property
    def counts(self) -> list[int]:
        """Images of each shard."""
        return [shard.num_rows for shard in self.shards]

    @property
    def decoded_bytes(self) -> int:
        """Bytes of all images once decoded."""
        return self.num_images * self.form.num_bytes

    def __add__(self, other: "ImageSource") -> "ImageSource":
        """The union of two sources."""
        return ImageSource(self.shards + other.shards, self.form, self.columns)


def unlabelled_source(index: DatasetIndex, form: ImageForm) -> ImageSource:
    """Every image of a data set, all labels unknown."""
    return ImageSource(tuple(SourceShard(shard) for shard in index.shards), form)


def sidecar_labelled_source(
    index: DatasetIndex, folder: str, form: ImageForm, columns: tuple[str, ...] = ()
) -> ImageSource:
    """Every image of a data set, labelled by the `label` column of the sidecars in `folder`, with others of them."""
    shards = (
        SourceShard(shard, label_sidecar=join(folder, sidecar_name(position)))
        for position, shard in enumerate(index.shards)
    )
    return ImageSource(tuple(shards), form, columns)


def sidecar_latent_source(
    index: DatasetIndex, labels: str, latents: str, form: LatentForm, columns: tuple[str, ...] = ()
) -> ImageSource:
    """The same with the moments of the sidecars in the folder `latents` in the place of images."""
    shards = (
        SourceShard(
            shard,
            label_sidecar=join(labels, sidecar_name(position)),
            latent_sidecar=join(latents, sidecar_name(position)),
        )
        for position, shard in enumerate(index.shards)
    )
    return ImageSource(tuple(shards), form, columns)


def read_shard_samples(shard: ShardInfo) -> list[Sample]:
    """Fetch a shard, check it against its index and return the samples that can be used.

    Raises:
        UserError: it is gone, or differs from its index in length, checksum or number of samples.
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
    """Decode samples of a shard to uint8, (N, C, H, W), in `out` if it is given.

    Raises:
        UserError: one of them cannot be read.
    """
    encoded = [sample.image_bytes(shard.url) for sample in samples]
    return decode_images(encoded, shard.form(form), _names(samples, shard.url), out=out)


Look = Callable[[Sequence[int], np.ndarray], object]
"""Takes the numbers of some samples and their images, uint8 (N, C, H, W)."""


def try_samples(
    samples: Sequence[Sample],
    form: ImageForm,
    where: str,
    levels: Levels,
    look: Look = lambda rows, images: None,
) -> tuple[list[int | None], dict[int, Skipped]]:
    """Decode the samples of the shard `where`; return every label, and those that cannot be used: row -> what is wrong.

    Args:
        samples: what to look at.
        form: what images are brought to.
        where: URL of the shard.
        levels: counts images whose white level is that of their data set.
        look: sees all images, also the undefined pixels of those that turn out not to be readable.
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
    for start in range(0, len(encoded), _TRIED_TOGETHER):
        rows, images = zip(*encoded[start : start + _TRIED_TOGETHER], strict=True)
        on_error = lambda place, error, rows=rows: note(rows[place], error)  # noqa: E731
        look(rows, decode_images(images, form, lambda place: where, on_error, levels=levels))
    return labels, found


_TRIED_TOGETHER = 256
"""Bounds the memory for decoded images that are only looked at."""


def _names(samples: Sequence[Sample], where: str) -> Callable[[int], str]:
    return lambda row: f"{where}: sample {samples[row].key!r}"


Take = Callable[[Sequence[int], np.ndarray], object]
"""Put the images of some of a shard's rows into an array, (N, *form.shape)."""

Room = Callable[[int], np.ndarray]
"""Return where the next images go, at most so many: (N, *form.shape), N at least 1."""


def new_arrays(form: ImageForm | LatentForm, at_once: int) -> Room:
    """Return room for at most `at_once` images, new memory every time."""
    return lambda rows: np.empty((min(rows, at_once), *form.shape), form.dtype)


HasKeys = Callable[[list[str]], bool]
"""Whether these are the keys of a shard's samples, in order."""


def _open_images(shard: SourceShard, form: ImageForm) -> tuple[HasKeys, Take]:
    """Return what knows the keys of a shard's samples, and what decodes some of them."""
    data, url = _fetch(shard.info), shard.info.url
    layout = find_layout(data, shard.info)
    if layout is None:
        samples = _samples(data, shard.info)
        return (
            lambda keys: keys == [sample.key for sample in samples],
            lambda rows, out: decode_samples([samples[row] for row in rows], form, shard.info, out),
        )

    def take(rows: Sequence[int], out: np.ndarray) -> object:
        wanted = list(rows)
        named = lambda place: f"{url}: sample {layout.key(wanted[place])!r}"  # noqa: E731
        return decode_images(layout.images(data, wanted), shard.info.form(form), named, out=out)

    return layout.has_keys, take


def _open_latents(shard: SourceShard, url: str, form: LatentForm) -> tuple[HasKeys, Take]:
    """Return what knows the keys of a shard's latents, and what gives some of them. The shard itself is not read."""
    keys, moments = read_latents(url, form)
    if len(keys) != shard.info.samples:
        raise UserError(f"holds latents of {len(keys)} images but the shard has {shard.info.samples}", where=url)

    def take(rows: Sequence[int], out: np.ndarray) -> object:
        return np.take(moments, rows, axis=0, out=out)

    return lambda others: others == keys, take


def read_rows(
    shard: SourceShard,
    wanted: Sequence[int],
    form: ImageForm | LatentForm,
    room: Room,
    columns: Sequence[str] = (),
) -> Iterator[Columns]:
    """Yield some rows of a source's shard, which is fetched once, in pieces.

    Args:
        shard: the shard as the source uses it.
        wanted: numbers of rows below `shard.num_rows`, in any order.
        form: what images are brought to, or what their latents are.
        room: says where each piece goes, and so how long it is.
        columns: further columns of the shard's sidecar.

    Yields:
        `image`: uint8 (N, C, H, W), or (N, *form.shape) where they are latents; `label`: int64 (N,),
        `UNKNOWN_LABEL` where the source gives none; the further columns, (N,).

    Raises:
        UserError: before the first piece: the shard or a sidecar is damaged, differs from its index, or doesn't
            match.
    """
    if isinstance(form, LatentForm):
        assert shard.latent_sidecar is not None
        has_keys, take = _open_latents(shard, shard.latent_sidecar, form)
    else:
        has_keys, take = _open_images(shard, form)
    rows = list(wanted) if shard.rows is None else [shard.rows[row] for row in wanted]
    further: Columns = {}
    if shard.label_sidecar is not None:
        sidecar = read_sidecar(shard.label_sidecar, [LABEL, *columns])
        if not has_keys(sidecar[KEY]):
            raise UserError("does not list the samples of its shard", where=shard.label_sidecar)
        labels = sidecar[LABEL][rows].astype(np.int64)
        further = {name: sidecar[name][rows] for name in columns}
    elif shard.labels is not None:
        labels = np.asarray(shard.labels, np.int64)[list(wanted)]
    else:
        labels = np.full(len(rows), UNKNOWN_LABEL, np.int64)
    start = 0
    while start < len(rows):
        images = room(len(rows) - start)
        piece = slice(start, start + len(images))
        take(rows[piece], images)
        start += len(images)
        yield {IMAGE: images, LABEL: labels[piece], **{name: values[piece] for name, values in further.items()}}


def read_segment(
    source: ImageSource,
    segment: Segment,
    room: Room,
    on_unreadable: Callable[[Skipped], None] | None,
) -> Iterator[Columns]:
    """Yield a segment of a source in pieces; see `read_rows`.

    Args:
        source: what to read.
        segment: rows of one of its shards.
        room: see `read_rows`; asked twice for the same piece where a shard cannot be read.
        on_unreadable: None lets a shard that cannot be read raise. Otherwise it is told of such a shard, and may
            raise; the shard's place in the order is taken by rows of the next one that can be read, so that the
            number of images and the position to resume from stay what they are.

    Raises:
        UserError: the shard cannot be read, or no shard can, or the store does not answer.
    """
    count = len(source.shards)
    for number in ((segment.shard + step) % count for step in range(count)):
        shard = source.shards[number]
        rows = shard.num_rows
        wanted = [row % rows for row in range(segment.start, segment.stop)]
        pieces = read_rows(shard, wanted, source.form, room, source.columns)
        try:
            first = next(pieces)
        except StoreFailureError:
            raise
        except UserError as error:
            if on_unreadable is None:
                raise
            on_unreadable(Skipped(shard.url, None, _reason(shard, error), shard.num_rows))
            continue
        yield first
        yield from pieces
        return
    raise UserError(f"none of {count} shards can be read", where=source.shards[0].url)


def _reason(shard: SourceShard, error: UserError) -> str:
    in_shard = error.where is None or error.where.startswith(shard.url)
    return error.what if in_shard else f"{error.where} {error.what}"
