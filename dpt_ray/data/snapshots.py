"""Stored power-function averages of a training, and averages of other widths made of them."""

import re
from collections.abc import Iterator

from torch import Tensor

from dpt_ray.core.models.weights import load_network, save_network
from dpt_ray.core.training.power_ema import Profile, reconstruct
from dpt_ray.core.training.state import TrainState
from dpt_ray.data import stores
from dpt_ray.errors import UserError

SNAPSHOT_FOLDER = "snapshots"
"""Beside the trained network."""

_NAME = re.compile(r"images_(\d+)_width_([\d.]+)\.safetensors")


def snapshot_files(state: TrainState) -> Iterator[tuple[str, bytes]]:
    """Yield a training's further averages as they are now: path in the training's folder, and content."""
    for average in state.power_averages:
        name = f"images_{state.images_seen:015d}_width_{average.sigma_rel}.safetensors"
        yield f"{SNAPSHOT_FOLDER}/{name}", save_network(average.model, {"kind": "average"})


def averaged_weights(folder: str, sigma_rel: float) -> dict[str, Tensor]:
    """Return the weights at the end of a training, averaged over a relative width.

    Args:
        folder: the training's folder.
        sigma_rel: the width, see `core/training/power_ema.py`.

    Raises:
        UserError: the training stored no snapshots, or one is damaged.
    """
    listed = stores.list_files(stores.join(folder, SNAPSHOT_FOLDER))
    files = [(file["url"], match) for file in listed if (match := _NAME.fullmatch(file["name"]))]
    if not files:
        raise UserError("there are no snapshots", where=folder, fix="train with stage2.ema_snapshots above 0")
    profiles = [Profile.of_width(float(match[2]), int(match[1])) for _, match in files]

    def load(place: int) -> dict[str, Tensor]:
        try:
            return load_network(stores.read_bytes(files[place][0]))[0]
        except ValueError as error:
            raise UserError(str(error), where=files[place][0]) from error

    end = max(profile.images for profile in profiles)
    return reconstruct(profiles, load, Profile.of_width(sigma_rel, end))
