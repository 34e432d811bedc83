"""How a training computes: precision, memory layout, compilation. None of it changes a name in a checkpoint."""

import os
import shutil
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import nn

from dpt_ray.core.training.state import TrainState
from dpt_ray.errors import UserError

Precision = Literal["float32", "bfloat16"]
FLOAT32: Precision = "float32"

_COMPILERS = ("g++", "clang++", "c++")


def mixed_precision(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a training step's loss is computed; for float32 it changes nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


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


def keep_channels_last(state: TrainState) -> None:
    """Keep the weights of convolutions, and with them all activations, channels last in memory, in place."""
    for module in (state.model, state.ema.model):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def compile_network(model: nn.Module) -> None:
    """Compile a network in place, at its first call; the names of its weights stay what they are.

    Raises:
        UserError: there is no compiler.
    """
    if not any(map(shutil.which, filter(None, (os.environ.get("CXX"), *_COMPILERS)))):
        raise UserError(
            "cluster.compile is set, but there is no C++ compiler where training runs",
            fix="install g++ there, or set cluster.compile=false",
        )
    model.compile()
