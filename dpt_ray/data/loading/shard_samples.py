"""The samples of indexed shards: fetched, compared with the index, and decoded."""

from collections.abc import Callable, Sequence

import numpy as np

from dpt_ray.data.images.decoding import ImageForm, decode_images
from dpt_ray.data.images.white_level import Levels
from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.salvage import reliable_samples
from dpt_ray.data.shards.samples import Sample, fetch_shard
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.errors import UserError


def read_shard_samples(shard: ShardInfo) -> list[Sample]:
    """Fetch a shard, compare it with its index, and return its usable samples.

    Raises:
        UserError: the shard is missing, or differs from its index in length, checksum or number of samples.
    """
    return usable_samples(fetch_indexed(shard), shard)


def fetch_indexed(shard: ShardInfo) -> bytes:
    """Return a shard's content, after comparing it with its entry in the index; see `fetch_shard`."""
    return fetch_shard(shard.url, size=shard.bytes, checksum=shard.sha256)


def usable_samples(data: bytes, shard: ShardInfo) -> list[Sample]:
    """Return the samples of a shard's content without those that its index leaves out.

    Raises:
        UserError: their number is not that of the index.
    """
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
    return decode_images(encoded, shard.form(form), sample_names(samples, shard.url), out=out)


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


def sample_names(samples: Sequence[Sample], where: str) -> Callable[[int], str]:
    """Return a function that names a sample in messages, given its row."""
    return lambda row: f"{where}: sample {samples[row].key!r}"
