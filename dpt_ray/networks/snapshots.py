"""Snapshots of a training: stored power-function averages, from which averages of other widths are reconstructed."""

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from torch import Tensor

from dpt_ray.core.training.power_ema import Profile, reconstruct
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.weights import load_network, save_network
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

SNAPSHOT_FOLDER = "snapshots"
"""Name of the folder of snapshots, beside the trained network."""

_NAME = re.compile(r"images_(\d+)_width_([\d.]+)\.safetensors")


def snapshot_files(state: TrainState) -> Iterator[tuple[str, bytes]]:
    """Yield the current power-function averages of a training: path in the training's folder, and content."""
    for average in state.power_averages:
        name = f"images_{state.images_seen:015d}_width_{average.sigma_rel}.safetensors"
        yield f"{SNAPSHOT_FOLDER}/{name}", save_network(average.model, {"kind": "average"})


def averaged_weights(folder: str, sigma_rel: float) -> dict[str, Tensor]:
    """Return the average of a training's weights with a given relative width, at the end of training.

    Args:
        folder: path or URL of the training's folder.
        sigma_rel: relative width of the average; see `core/training/power_ema.py`.

    Raises:
        UserError: the training stored no snapshots, or one is damaged.
    """
    snapshots = _listed(folder)
    profiles = [Profile.of_width(snapshot.sigma_rel, snapshot.images) for snapshot in snapshots]
    end = max(profile.images for profile in profiles)
    return reconstruct(profiles, lambda place: _weights(snapshots[place]), Profile.of_width(sigma_rel, end))


def early_weights(folder: str, number: int) -> dict[str, Tensor]:
    """Return the weights of a snapshot of a training: the widest average stored at that time.

    Args:
        folder: path or URL of the training's folder.
        number: number of the snapshot, from 1, the earliest.

    Raises:
        UserError: the training stored fewer snapshots, or the file is damaged.
    """
    return _weights(_early(folder, number))


def early_file(folder: str, number: int) -> tuple[str, bytes]:
    """Return the file that `early_weights` reads: path in the training's folder, and content."""
    url = _early(folder, number).url
    return f"{SNAPSHOT_FOLDER}/{url.rpartition('/')[2]}", stores.read_bytes(url)


def copy_snapshots(source: str, destination: str, images: Collection[int]) -> None:
    """Copy the snapshots of some numbers of images from one training's folder to another.

    Raises:
        UserError: one cannot be read or stored.
    """
    for file in stores.list_files(stores.join(source, SNAPSHOT_FOLDER)):
        match = _NAME.fullmatch(file["name"])
        if match and int(match[1]) in images:
            stores.write_bytes(stores.join(destination, SNAPSHOT_FOLDER, file["name"]), stores.read_bytes(file["url"]))


def _early(folder: str, number: int) -> "_Snapshot":
    snapshots = _listed(folder)
    times = sorted({snapshot.images for snapshot in snapshots})
    if number > len(times):
        raise UserError(f"there are {len(times)} snapshots, but number {number} is requested", where=folder)
    then = [snapshot for snapshot in snapshots if snapshot.images == times[number - 1]]
    return max(then, key=lambda snapshot: snapshot.sigma_rel)


class _Snapshot(NamedTuple):
    url: str
    images: int
    sigma_rel: float


def _listed(folder: str) -> list[_Snapshot]:
    listed = stores.list_files(stores.join(folder, SNAPSHOT_FOLDER))
    matches = [(file["url"], match) for file in listed if (match := _NAME.fullmatch(file["name"]))]
    if not matches:
        raise UserError("there are no snapshots", where=folder, fix="train with stage2.ema_snapshots above 0")
    return [_Snapshot(url, int(match[1]), float(match[2])) for url, match in matches]


def _weights(snapshot: _Snapshot) -> dict[str, Tensor]:
    try:
        return load_network(stores.read_bytes(snapshot.url))[0]
    except ValueError as error:
        raise UserError(str(error), where=snapshot.url) from error
