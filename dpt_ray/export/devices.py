"""Where a loaded network computes."""

import torch

from dpt_ray.core.transfer import own_device
from dpt_ray.errors import UserError


def usable_device(name: str | None) -> str:
    """Return a device, by default a GPU where there is one.

    Raises:
        UserError: the named one cannot be used here.
    """
    if name is None:
        return own_device()
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0][:100]
        raise UserError(
            f"the device {name!r} cannot be used here ({reason})", fix="leave device out, or 'cpu'"
        ) from None
    return name
