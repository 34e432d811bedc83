"""Precision, memory format and compilation of a training. None of them changes a tensor's name in a checkpoint."""

import time
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dpt_ray.core.training.state import TrainState
from dpt_ray.errors import UserError

Precision = Literal["float32", "bfloat16"]
FLOAT32: Precision = "float32"


class MixedPrecision(nn.Module):
    """Call a network under bfloat16 autocast and return its output as float32.

    Autocast applies to the network only, so augmentation, losses, thresholds and statistics are computed in float32.

    Args:
        network: a network with one output tensor, wrapped for several workers or not.
        device: the device of the network.
    """

    def __init__(self, network: nn.Module, device: torch.device):
        super().__init__()
        self.network, self._device_type = network, device.type

    def forward(self, *arguments: Any, **options: Any) -> Tensor:
        with torch.autocast(self._device_type, dtype=torch.bfloat16):
            return self.network(*arguments, **options).float()


def in_precision(network: nn.Module, precision: Precision, device: torch.device) -> nn.Module:
    """Return the network for computation in `precision`; for float32 it is the network itself."""
    return network if precision == FLOAT32 else MixedPrecision(network, device)


def check_precision(precision: Precision, device: torch.device) -> None:
    """Refuse a precision that a GPU only emulates.

    Raises:
        UserError: the GPU does not support it.
    """
    if (
        precision == "bfloat16"
        and device.type == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        name = torch.cuda.get_device_name(device)
        raise UserError(f"precision bfloat16 is set, but {name} does not have it", fix="set precision: float32")


def check_compute(precision: Precision, compiled: bool, device: torch.device, work: str = "training") -> None:
    """Refuse a precision or a compilation that a device does not support; see `check_precision`, `check_compiler`.

    Args:
        precision: number format of the computation.
        compiled: whether networks are compiled.
        device: the device that computes.
        work: the work in words, for the error message.

    Raises:
        UserError: the device does not support one of them.
    """
    check_precision(precision, device)
    if compiled:
        check_compiler(device, work)


def keep_channels_last(state: TrainState) -> None:
    """Convert weights, average and moments of convolutions to channels last, in place; activations follow.

    Call it after a checkpoint is loaded.
    """
    for module in (state.model, state.ema.model):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
    for moments in state.optimizer.state.values():  # a checkpoint's moments; another layout slows steps down
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.ndim == 4:
                moments[name] = value.contiguous(memory_format=torch.channels_last)


def compile_network(model: nn.Module) -> None:
    """Compile a network in place, at its first call; the names of its weights do not change."""
    model.compile(dynamic=False)  # the shapes are the same in every step


def check_compiler(device: torch.device, work: str = "training") -> None:
    """Compile and run a tiny function, so that a missing compiler is found before the first step.

    Args:
        device: the device to compile for.
        work: the work in words, for the error message.

    Raises:
        UserError: `torch.compile` fails here.
    """
    new = float(time.time_ns() % 2**20)  # a constant: a known function would come from a cache, without a compiler
    try:
        torch.compile(lambda x: x * 2 + new, options={"fx_graph_cache": False})(torch.ones(8, device=device))
    except Exception as error:  # the back ends of torch.compile raise errors of many types
        raise UserError(
            f"cluster.compile is set, but torch.compile does not work where {work} runs ({_reason(error)})",
            fix="install a C++ compiler (g++) there, or set cluster.compile=false",
        ) from error


def _reason(error: BaseException) -> str:
    """Return the first line of the message of the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]
