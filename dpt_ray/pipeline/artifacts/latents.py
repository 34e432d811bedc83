"""Stored latents: their form, and the scale that training divides by."""

from dataclasses import dataclass

from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.shards.stored_latents import LatentForm
from dpt_ray.data.storage.json_records import optional
from dpt_ray.pipeline.artifacts.step_facts import Facts, ShardFile
from dpt_ray.pipeline.artifacts.store import Artifact

LATENTS = "latents"
"""The folder with the sidecars."""


@dataclass(frozen=True, kw_only=True)
class LatentsFacts(Facts):
    """The facts of `EncodeLatents`.

    Attributes:
        images_in: images of the set.
        skipped: those that could not be read.
        images: encoded images.
        form: the form of the latents.
        own_scale: the scale in the autoencoder's configuration.
        shift: what the autoencoder's configuration subtracts from latents.
        standard_deviation: over all latents, before any scale.
        bytes: size of all sidecars.
        files: the sidecars, in the order of the shards.
    """

    images_in: int = 0
    skipped: tuple[Skipped, ...] = ()
    images: int
    form: LatentForm
    own_scale: float
    shift: float
    standard_deviation: float
    bytes: int
    files: tuple[ShardFile, ...]


@dataclass(frozen=True, kw_only=True)
class LatentsShard(ShardFile):
    """What a worker reports of one shard.

    Attributes:
        statistics: number, sum and sum of squares of the latents; None for a shard that could not be read.
    """

    statistics: tuple[float, float, float] | None = optional()


def made_form(latents: Artifact) -> LatentForm:
    """Return the form of a finished `EncodeLatents` artifact."""
    return LatentsFacts.read(latents).form
