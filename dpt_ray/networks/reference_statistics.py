"""Reference statistics of others: `.npz` files with means and covariances, in the form of the ADM evaluator."""

import zipfile
from dataclasses import dataclass

import numpy as np
import torch

from dpt_ray.core.metrics.frechet import Gaussian
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.text import one_line

_MOST_BYTES = 512 << 20
"""Of an array: a covariance of 8,192 features."""
_FIX = "give a .npz file with mu and sigma, such as those of the ADM evaluator"


@dataclass(frozen=True)
class FoundReference:
    """A file with reference statistics.

    Attributes:
        url: the file.
        identity: its name, size and change mark: it may hold gigabytes of images beside the statistics.
    """

    url: str
    identity: JsonObject

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class ReferenceStatistics:
    """Gaussians of pooled features, and of spatial ones if the file holds them."""

    pooled: Gaussian
    spatial: Gaussian | None


def find_reference(url: str) -> FoundReference:
    """Find the file.

    Raises:
        UserError: there is none.
    """
    place = stores.absolute_url(url)
    folder, _, name = place.rpartition("/")
    for file in stores.list_files(folder):
        if file["name"] == name:
            return FoundReference(place, {"name": name, "size": file["size"], "changed": file["changed"]})
    raise UserError("there is no such file", where=place, fix=_FIX)


def read_reference(found: FoundReference) -> ReferenceStatistics:
    """Read the statistics. Images in the file are not read, and nothing is unpickled.

    Raises:
        UserError: the file cannot be read, or holds no statistics.
    """
    try:
        with stores.open_file(found.url) as file:
            sizes = {member.filename: member.file_size for member in zipfile.ZipFile(file).infolist()}
            if any(sizes.get(f"{name}.npy", 0) > _MOST_BYTES for name in ("mu", "sigma", "mu_s", "sigma_s")):
                raise ValueError(f"an array has more than {_MOST_BYTES >> 20} MiB")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                pooled = _gaussian(arrays["mu"], arrays["sigma"])
                spatial = _gaussian(arrays["mu_s"], arrays["sigma_s"]) if "mu_s" in arrays else None
    except (OSError, ValueError, LookupError, EOFError, MemoryError, zipfile.BadZipFile, NotImplementedError) as error:
        raise UserError(f"holds no reference statistics ({one_line(error)})", where=found.url, fix=_FIX) from None
    return ReferenceStatistics(pooled, spatial)


def _gaussian(mean: np.ndarray, covariance: np.ndarray) -> Gaussian:
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(f"a mean of shape {mean.shape} and a covariance of shape {covariance.shape}")
    if not (np.issubdtype(mean.dtype, np.floating) and np.issubdtype(covariance.dtype, np.floating)):
        raise ValueError("means or covariances that are no floating-point numbers")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError("means or covariances that are not finite")
    return Gaussian(torch.from_numpy(mean.astype(np.float64)), torch.from_numpy(covariance.astype(np.float64)))
