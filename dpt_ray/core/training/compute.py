"""How a training computes: precision, memory layout, compilation. None of it changes a name in a checkpoint."""

import time
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dpt_ray.core.training.state import TrainState
from dpt_ray.errors import UserError

Precision = Literal["float32", "bfloat16"]
FLOAT32: Precision = "float32"


class MixedPrecision(nn.Module):
    """Calls a network under autocast; its output is float32.

    Autocast is around the network alone, so that augmentation, losses, thresholds and statistics are computed in
    float32, whatever operations a method needs for them.

    Args:
        network: may be wrapped for several workers; its output is one tensor.
        device: where it computes.
    """

    def __init__(self, network: nn.Module, device: torch.device):
        super().__init__()
        self.network, self._device_type = network, device.type

    def forward(self, *arguments: Any, **options: Any) -> Tensor:
        with torch.autocast(self._device_type, dtype=torch.bfloat16):
            return self.network(*arguments, **options).float()


def in_precision(network: nn.Module, precision: Precision, device: torch.device) -> nn.Module:
    """Return the network as it is called in training; for float32 it is the network itself."""
    return network if precision == FLOAT32 else MixedPrecision(network, device)


def check_precision(precision: Precision, device: torch.device) -> None:
    """Refuse a precision that a GPU only emulates.

    Raises:
        UserError: in that case.
    """
    if (
        precision == "bfloat16"
        and device.type == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        name = torch.cuda.get_device_name(device)
        raise UserError(f"precision bfloat16 is asked for, which {name} does not have", fix="set precision: float32")


def check_compute(precision: Precision, compiled: bool, device: torch.device, work: str = "training") -> None:
    """Refuse what a device cannot do, before anything is computed there; see `check_precision`, `check_compiler`.

    Raises:
        UserError: what it cannot do, of what is asked for.
    """
    check_precision(precision, device)
    if compiled:
        check_compiler(device, work)


def keep_channels_last(state: TrainState) -> None:
    """Keep convolutions' weights, average and moments, and with them all activations, channels last, in place.

    To be called after a checkpoint is loaded.
    """
    for module in (state.model, state.ema.model):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
    for moments in state.optimizer.state.values():  # those of a checkpoint; laid out otherwise they make steps slow
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.ndim == 4:
                moments[name] = value.contiguous(memory_format=torch.channels_last)


def compile_network(model: nn.Module) -> None:
    """Compile a network in place, at its first call; the names of its weights stay what they are."""
    model.compile(dynamic=False)  # every step has equally many rows


def check_compiler(device: torch.device, work: str = "training") -> None:
    """Compile and run a trifle, so that whatever is missing is found before the first step.

    Args:
        device: to compile for.
        work: what runs there, for what is told.

    Raises:
        UserError: it cannot be compiled here.
    """
    new = float(time.time_ns() % 2**20)  # a trifle compiled before would come from a cache, without a compiler
    try:
        torch.compile(lambda x: x * 2 + new, options={"fx_graph_cache": False})(torch.ones(8, device=device))
    except Exception as error:  # whatever the back ends of torch.compile raise
        raise UserError(
            f"cluster.compile is set, but torch.compile does not work where {work} runs ({_reason(error)})",
            fix="install a C++ compiler (g++) there, or set cluster.compile=false",
        ) from error


def _reason(error: BaseException) -> str:
    """Return the first line of the innermost message."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]
