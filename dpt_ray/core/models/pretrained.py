"""Checks of a pretrained model's files before a library builds anything from them.

A `config.json` of a few bytes may describe gigabytes, name code to run, or name an attention implementation that the
library then downloads. The header of the weights lists the tensors that exist, and it cannot claim more than the file
holds. So the configuration is checked against the header first.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from dpt_ray.core.weights import check_header
from dpt_ray.json_values import JsonObject
from dpt_ray.text import one_line

MAX_CONFIG_BYTES = 1 << 20

REFUSED_KEYS = ("quantization_config", "auto_map", "custom_pipelines", "adapter_path", "peft_config")
"""Keys that make a library run code, or use another loader."""

REPEATED = ("num_hidden_layers", "layers_per_block", "depth", "depths", "num_encoder_blocks", "num_decoder_blocks",
            "blocks")  # fmt: skip
"""Keys with a number of repetitions of a part. Each repetition has at least one tensor."""


def parse_config(content: bytes) -> JsonObject:
    """Parse a `config.json`.

    Raises:
        ValueError: it is too long, is no JSON object, or has one of `REFUSED_KEYS`.
    """
    if len(content) > MAX_CONFIG_BYTES:
        raise ValueError(f"has {len(content):,} bytes; a configuration has at most {MAX_CONFIG_BYTES:,}")
    try:
        config = json.loads(content)
    except RecursionError:
        raise ValueError("is JSON that is nested too deeply") from None
    except ValueError as error:  # also for numbers with too many digits, and for bytes that are no UTF-8
        raise ValueError(f"is no JSON ({one_line(error)})") from None
    if not isinstance(config, dict):
        raise ValueError("is no JSON object")
    for key in REFUSED_KEYS:
        if config.get(key) is not None:
            raise ValueError(f"sets {key}, which is not supported")
    return config


def check_weights(config: Mapping[str, Any], file: str | Path, build: Callable[[], nn.Module]) -> None:
    """Refuse a configuration that describes a larger network than the weights hold. No weight is loaded.

    Args:
        config: content of `config.json`.
        file: the weights, a local safetensors file.
        build: builds the network; called on the meta device, which allocates no memory.

    Raises:
        ValueError: the file is damaged, or the network has more parameters than the file.
    """
    try:
        with open(file, "rb") as begin:
            check_header(begin.read(8))
        with safe_open(file, "pt") as tensors:
            held = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"its weights are no safetensors file ({one_line(error)})") from None
    check_repetitions(config, len(held))
    try:
        with torch.device("meta"):
            network = build()
    except Exception as error:  # libraries raise many types for settings that contradict each other
        raise ValueError(f"describes no network that can be built ({one_line(error)})") from None
    described = sum(parameter.numel() for parameter in network.parameters())
    stored = sum(_numel(shape) for shape in held.values())
    if described > stored:
        raise ValueError(f"describes {described:,} parameters, but its weights have {stored:,}")


def check_repetitions(config: Any, tensors: int) -> None:
    """Refuse settings that repeat a part more often than there are tensors: building it could take for ever.

    Args:
        config: the settings; nested ones are checked, too.
        tensors: number of tensors in the weights.

    Raises:
        ValueError: a setting repeats a part too often; the message names it.
    """
    if isinstance(config, Mapping):
        _check_scaled_depth(config, tensors)
    for name, value in config.items() if isinstance(config, Mapping) else ():
        for times in value if isinstance(value, list) else [value]:
            if name in REPEATED and isinstance(times, int) and times > tensors:
                raise ValueError(f"its {name} is {times}, but its weights have {tensors} tensors")
        check_repetitions(value, tensors)


def _check_scaled_depth(config: Mapping[str, Any], tensors: int) -> None:
    """Refuse an EfficientNet's settings whose product, the number of its blocks, exceeds the number of tensors."""
    repeats, factor = config.get("num_block_repeats", []), config.get("depth_coefficient", 1.0)
    numbers = [abs(n) for n in (repeats if isinstance(repeats, list) else [repeats]) if isinstance(n, int | float)]
    if not isinstance(factor, int | float) or not abs(factor) * max(1, sum(numbers)) <= max(tensors, 1):
        raise ValueError(f"its num_block_repeats and depth_coefficient exceed its {tensors} tensors")


def _numel(shape: list[int]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total
