"""Loading an export of any kind, from a folder or from the Hugging Face hub, without Ray."""

import os

import torch

from dpt_ray.errors import UserError
from dpt_ray.export.arguments import as_url, described
from dpt_ray.export.folder import EXPORT_KINDS, read_export
from dpt_ray.export.hub import fetch_from_hub
from dpt_ray.export.loaded_classifier import LoadedClassifier, load_classifier
from dpt_ray.export.loaded_generator import LoadedGenerator, load_generator
from dpt_ray.networks.pretrained.model_files import is_folder


def load_export(
    place: str | os.PathLike[str], revision: str | None = None, device: str | torch.device | int | None = None
) -> LoadedClassifier | LoadedGenerator:
    """Load an export; see `dpt_ray.load`."""
    if revision is not None and not isinstance(revision, str):
        raise TypeError(f"revision must be text, not {described(revision)}")
    if not isinstance(place, str) or is_folder(place) or place.count("/") != 1:
        if revision is not None:
            raise UserError("a folder has no revision", where=str(place), fix="leave revision out, or give owner/name")
        return _load(as_url(place, "place"), device)
    found = fetch_from_hub(place, revision)
    loaded = _load(found.folder, device)
    loaded.config["hub"] = {"name": found.name, "revision": found.revision}
    return loaded


def _load(url: str, device: str | torch.device | int | None) -> LoadedClassifier | LoadedGenerator:
    generator = read_export(url, EXPORT_KINDS)["kind"] == "generator"
    return load_generator(url, device) if generator else load_classifier(url, device)
