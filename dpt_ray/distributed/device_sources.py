"""Which sources of a training lie on the GPU, as follows from sizes, and in words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from dpt_ray.core.training.state import TrainState
from dpt_ray.data.loading.source import ImageSource

MIB = 2**20

ACTIVATION_SHARE = 0.5
"""Share of a GPU's memory that is left for activations and the allocator. They are known after the first step only, so
this is a bound and not a measurement."""

STEP_COPIES = 3
"""Copies of the weights that a training allocates in its first step: the gradient and at most two moments."""

ROW_BYTES = 64
"""Bytes of a row besides its image: label, confidence, and a few classes with their probabilities."""


@dataclass(frozen=True)
class DeviceMemory:
    """Memory of a device.

    Attributes:
        total: all of it, in bytes.
        free: what is not allocated, in bytes.
    """

    total: int
    free: int

    @classmethod
    def of(cls, device: torch.device, share: float = 1.0) -> "DeviceMemory | None":
        """Return the share of a GPU's memory that a worker may use, in (0, 1]; None for another device."""
        if device.type != "cuda":
            return None
        free, total = torch.cuda.mem_get_info(device)
        return cls(int(share * total), int(share * free))


def network_need(state: TrainState, memory: DeviceMemory) -> int:
    """Return the bytes that a training needs besides what it has allocated before its first step."""
    weights = sum(parameter.nbytes for parameter in state.model.parameters())
    return STEP_COPIES * weights + int(ACTIVATION_SHARE * memory.total)


def resident_names(sizes: Mapping[str, int], memory: DeviceMemory | None, need: int, most_mib: int | None) -> list[str]:
    """Return the sources that lie on the device: the smallest first, as long as they fit together.

    Args:
        sizes: source name -> its bytes.
        memory: memory of the device; None if it is no GPU.
        need: what the training needs of the free memory, in bytes.
        most_mib: the setting `cluster.keep_gpu_mib`: most MiB of all sources together; None for what fits.
    """
    if memory is None:
        return []
    left = memory.free - need
    if most_mib is not None:
        left = min(left, most_mib * MIB)
    chosen = []
    for name in sorted(sizes, key=sizes.__getitem__):
        left -= sizes[name]
        if left < 0:
            break
        chosen.append(name)
    return chosen


def source_sizes(sources: Mapping[str, tuple[ImageSource, int]]) -> dict[str, int]:
    """Return source name -> bytes of all its rows on a device."""
    return {name: source.decoded_bytes + ROW_BYTES * source.num_images for name, (source, _) in sources.items()}


def describe(sizes: Mapping[str, int], resident: list[str], memory: DeviceMemory, need: int) -> str:
    """Return one line: where each source lies, why, and the setting that changes it."""
    where = [
        f"{name} ({_mib(sizes[name])}) {'lies on the GPU' if name in resident else 'is copied two steps ahead'}"
        for name in sorted(sizes, key=sizes.__getitem__)
    ]
    room = f"{_mib(memory.free)} are free, of which the training may need {_mib(need)}"
    return f"{'; '.join(where)}: {room}; cluster.keep_gpu_mib limits what lies there"


def choose_resident(
    sources: Mapping[str, tuple[ImageSource, int]],
    state: TrainState,
    memory: DeviceMemory | None,
    most_mib: int | None,
    say: Callable[[str], object],
) -> list[str]:
    """Return the sources that this worker keeps on its GPU, and tell why; none on other devices."""
    if memory is None:
        return []
    sizes, need = source_sizes(sources), network_need(state, memory)
    resident = resident_names(sizes, memory, need, most_mib)
    say(describe(sizes, resident, memory, need))
    return resident


def _mib(size: int) -> str:
    return f"{-(-size // MIB):,} MiB"
