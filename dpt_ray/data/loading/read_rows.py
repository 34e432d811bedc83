"""Rows of a source's shards as blocks of decoded images or latents, with the labels that the source has.

They are fetched first, and decoded later: a reader decodes some while a thread fetches the next ones.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.data.images.decoding import ImageForm, decode_images
from dpt_ray.data.loading.batches import Columns
from dpt_ray.data.loading.shard_samples import decode_samples, fetch_indexed, usable_samples
from dpt_ray.data.loading.source import IMAGE, LABEL, SourceShard
from dpt_ray.data.shards.image_ranges import fetch_images, images_differ
from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.layouts import Layout, find_layout
from dpt_ray.data.shards.sidecars import KEY, read_sidecar
from dpt_ray.data.shards.stored_latents import LatentForm, read_latents
from dpt_ray.data.shards.stored_layouts import read_layout
from dpt_ray.errors import UserError

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
    data, url = fetch_indexed(shard.info), shard.info.url
    layout = find_layout(data, shard.info)
    if layout is None:
        samples = usable_samples(data, shard.info)
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


@dataclass(frozen=True)
class FetchedRows:
    """N rows of a shard that are in memory, their images still encoded.

    Attributes:
        rows: numbers of their samples in the shard.
        columns: `label`, int64 (N,), `UNKNOWN_LABEL` where the source has no label; the further columns, (N, ...).
        decode: decodes some of the rows.
    """

    rows: Sequence[int]
    columns: Columns
    decode: Decode

    def blocks(self, allocate: Allocate) -> Iterator[Columns]:
        """Decode the rows, and yield them as blocks.

        Args:
            allocate: returns the array for the images of each block, whose length is the length of the block.

        Yields:
            `image`: uint8 (N, C, H, W), or moments (N, *form.shape); the other columns.

        Raises:
            UserError: an image cannot be decoded.
        """
        start = 0
        while start < len(self.rows):
            images = allocate(len(self.rows) - start)
            block = slice(start, start + len(images))
            self.decode(self.rows[block], images)
            start += len(images)
            yield {IMAGE: images, **{name: values[block] for name, values in self.columns.items()}}


def fetch_rows(
    shard: SourceShard,
    wanted: Sequence[int],
    form: ImageForm | LatentForm,
    columns: Sequence[str] = (),
    *,
    whole: bool = True,
) -> FetchedRows:
    """Fetch images of a shard once, and their labels.

    Args:
        shard: the shard as the source uses it.
        wanted: numbers of rows, each less than `shard.num_rows`, in any order.
        form: size and channels of the decoded images, or the form of their latents.
        columns: names of further columns of the shard's label sidecar.
        whole: fetch the whole shard; otherwise only the images, where the shard has a layout.

    Raises:
        UserError: the shard or a sidecar is damaged, differs from the index, or they do not match.
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
    return FetchedRows(rows, {LABEL: labels, **further}, decode)


def read_rows(
    shard: SourceShard,
    wanted: Sequence[int],
    form: ImageForm | LatentForm,
    allocate: Allocate,
    columns: Sequence[str] = (),
    *,
    whole: bool = True,
) -> Iterator[Columns]:
    """Fetch images of a shard, and yield them with their labels as blocks; see `fetch_rows` and `FetchedRows.blocks`.

    What is wrong with the shard or a sidecar is raised before the first block, and an image that cannot be decoded with
    its block.
    """
    yield from fetch_rows(shard, wanted, form, columns, whole=whole).blocks(allocate)
