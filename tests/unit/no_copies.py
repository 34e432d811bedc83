"""Finds copies from the host to a device; the device `meta` takes the place of a GPU."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class NoCopies(TorchDispatchMode):
    """Fail where values of the host get onto another device."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device.type != "cpu":
            given = [value for value in (*args, *(kwargs or {}).values()) if isinstance(value, torch.Tensor)]
            copied = [value for value in given if value.device.type == "cpu"]
            assert not copied, f"{function} copies from the host: {copied}"
        return result
