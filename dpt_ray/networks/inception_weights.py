"""Weights of Inception-v3 for FID, from a file that the user names. Nothing is ever fetched by itself."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from dpt_ray.core.models.inception import Inception
from dpt_ray.core.state_mismatch import describe_mismatch
from dpt_ray.core.weights import check_header
from dpt_ray.data.shards.samples import sha256
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.networks.torch_files import PICKLES, load_tensors, read_tensors
from dpt_ray.text import one_line

PUBLISHED = "6726825d"
"""First digits of the SHA-256 of the published port, `pt_inception-2015-12-05-6726825d.pth`, which are in its name. A
Fréchet distance is called FID with these weights alone."""

_FIX = f"give pt_inception-2015-12-05-{PUBLISHED}.pth (pytorch-fid, torch-fidelity), or its tensors as safetensors"
_COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class FoundInception:
    """The file with the weights.

    Attributes:
        url: the file.
        checksum: SHA-256 of its content, hexadecimal.
    """

    url: str
    checksum: str

    @property
    def is_published(self) -> bool:
        """Whether it is the published file."""
        return self.checksum.startswith(PUBLISHED)

    @property
    def name(self) -> str:
        """Name of the network beside figures."""
        weights = "published weights" if self.is_published else f"weights {self.checksum[:8]}"
        return f"Inception-v3, {weights}"


def find_inception(url: str) -> FoundInception:
    """Read the file and check it.

    Raises:
        UserError: it cannot be read, or holds other tensors than those of the network.
    """
    data = stores.read_bytes(url)
    _checked(url, data)
    return FoundInception(url, sha256(data))


def open_inception(found: FoundInception, device: str = "cpu") -> Inception:
    """Return the network with the weights of a file.

    Raises:
        UserError: the file cannot be read, or has changed since it was found.
    """
    data = stores.read_bytes(found.url)
    if sha256(data) != found.checksum:
        raise UserError("has changed since the job read it", where=found.url, fix="start the job again")
    network = Inception()
    network.load_state_dict(_checked(found.url, data), strict=False)  # names are checked; counters may be absent
    return network.to(device)


def _checked(url: str, data: bytes) -> dict[str, Tensor]:
    """Return the weights in a file, float32, without batch norm's counters, which inference never reads."""
    weights = {name: value for name, value in _read(url, data).items() if not name.endswith(_COUNTER)}
    with torch.device("meta"):
        expected = {name: value for name, value in Inception().state_dict().items() if not name.endswith(_COUNTER)}
    if complaint := describe_mismatch(weights, expected):
        raise UserError(f"does not hold the weights of FID's Inception-v3: {complaint}", where=url, fix=_FIX)
    for name, value in weights.items():
        if not value.is_floating_point() or not value.isfinite().all():
            raise UserError(f"its tensor {name} holds no finite numbers", where=url, fix=_FIX)
    return {name: value.float() for name, value in weights.items()}


def _read(url: str, data: bytes) -> Mapping[str, Tensor]:
    if sha256(data).startswith(PUBLISHED):  # known content, so an older format of torch is no danger
        return load_tensors(url, data, _FIX)
    try:
        check_header(data)
        return load(data)
    except (ValueError, SafetensorError) as error:
        if data.startswith(PICKLES):  # only now: the length of a header may begin with the same bytes
            return read_tensors(url, _FIX)
        raise UserError(f"is neither a safetensors nor a torch file ({one_line(error)})", where=url, fix=_FIX) from None
