"""Stored latents: their form, and the scale that training divides by."""

from dpt_ray.data.shards.stored_latents import LatentForm
from dpt_ray.pipeline.artifacts.store import Artifact

LATENTS = "latents"
"""The folder with the sidecars."""


def made_form(latents: Artifact) -> LatentForm:
    """Return the form of a finished `EncodeLatents` artifact."""
    return LatentForm(**latents.facts["form"])
