"""The device of a loaded network."""

import reprlib
from typing import Any

import torch

from dpt_ray.core.transfer import own_device
from dpt_ray.errors import UserError
from dpt_ray.export.arguments import described


def usable_device(device: Any) -> str:
    """Return the name of a device; by default a GPU if there is one, otherwise the CPU.

    Args:
        device: text such as "cuda:1", a `torch.device`, the number of a GPU, or None.

    Raises:
        TypeError: it is of another type.
        UserError: the device cannot be used on this machine.
    """
    if device is None:
        return own_device()
    if isinstance(device, bool) or not isinstance(device, str | int | torch.device):
        raise TypeError(f"device must be text, a torch.device or the number of a GPU, not {described(device)}")
    try:
        found = torch.device(device)
        if found.type == "meta":
            raise RuntimeError("it holds no values")
        torch.empty(1, device=found)
    except Exception as error:  # each kind of device raises its own type where it is missing
        name = device if isinstance(device, str) else str(device)
        reason = str(error).partition("\n")[0][:100]
        raise UserError(
            f"the device {reprlib.repr(name)} cannot be used here ({reason})", fix="leave device out, or 'cpu'"
        ) from None
    return str(found)
