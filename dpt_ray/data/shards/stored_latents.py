"""Stored latents: the moments of every image, and optionally of its mirror image, in sidecars that training reads."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from dpt_ray.data.shards.sidecar_ranges import read_sidecar_rows
from dpt_ray.data.shards.sidecars import KEY, encode_sidecar, metadata_facts
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject

MOMENTS = "moments"
"""Name of the sidecar's column."""


@dataclass(frozen=True)
class LatentForm:
    """The form of the moments of a set of images, and the autoencoder that computed them; every sidecar holds it too.

    Attributes:
        autoencoder: checksum of the autoencoder.
        precision: type of numbers that the autoencoder computed in.
        image_size: height and width in pixels of the encoded images.
        flips: 2 if the moments of each image are followed by those of its mirror image, otherwise 1.
        has_variance: whether log-variances follow the means.
        channels: channels of a latent.
        size: height and width of a latent.
        storage: NumPy's name of the type of the stored numbers.
    """

    autoencoder: str
    precision: Literal["float32", "bfloat16"]
    image_size: int
    flips: int
    has_variance: bool
    channels: int
    size: int
    storage: str

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(flips, channels of the moments, h, w) of an image."""
        return self.flips, self.channels * (2 if self.has_variance else 1), self.size, self.size

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers."""
        return np.dtype(self.storage)

    @property
    def num_bytes(self) -> int:
        """Bytes of the moments of an image."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def to_json(self) -> JsonObject:
        """Return the form as JSON for facts."""
        return asdict(self)


GROUP_ROWS = 8
"""Images of a row group of a sidecar, the least that is fetched."""


def encode_latents(keys: Sequence[str], moments: np.ndarray, form: LatentForm, facts: JsonObject) -> bytes:
    """Return a sidecar of moments (N, *form.shape); its metadata holds the form and `facts`."""
    rows = moments.reshape(len(keys), -1)
    return encode_sidecar(keys, {MOMENTS: rows}, {"form": form.to_json(), **facts}, group_rows=GROUP_ROWS)


@dataclass(frozen=True)
class Latents:
    """Moments of consecutive images of a shard.

    Attributes:
        first: number of the first image in the shard.
        keys: keys of the images.
        moments: (N, *form.shape).
        images: number of images of the shard that have latents.
    """

    first: int
    keys: list[str]
    moments: np.ndarray
    images: int


def read_latents(url: str, form: LatentForm, start: int, stop: int) -> Latents:
    """Return the latents in a sidecar of images [start, stop) at least.

    Raises:
        UserError: the sidecar cannot be read, or holds moments of another form or autoencoder.
    """
    found = read_sidecar_rows(url, [MOMENTS], start, stop)
    made = metadata_facts(found.footer.metadata, url).get("form")
    if made != form.to_json():
        difference = _difference(made if isinstance(made, dict) else {}, form)
        fix = "remove the folder of these latents; the same command makes them again"
        raise UserError(f"holds latents of another {difference}", where=url, fix=fix)
    return Latents(found.first, found.columns[KEY], found.columns[MOMENTS].reshape(-1, *form.shape), found.rows)


def _difference(made: JsonObject, form: LatentForm) -> str:
    """Return the name of the first attribute in which two forms differ."""
    return next((name for name, value in form.to_json().items() if made.get(name) != value), "form").replace("_", " ")
