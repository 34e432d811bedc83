"""Dropout whose mask is a function of a row's seed alone, so that it depends neither on worker nor on device.

torch's dropout draws from the generator of the process, which all rows share. `RowRandom` is too slow on a CPU for the
millions of numbers that a network needs for each image. So the mask is a hash of the row's seed, the index of the
dropout in the network and the index of the element. The hash uses 32-bit integers, whose overflow is the same on every
device.
"""

import torch
from torch import Tensor

_WORD = 2**32
_MULTIPLIERS = (0x7FEB352D, 0x846CA68B)
"""Multipliers of the 32-bit mixing function of Wellons, "Prospecting for Hash Functions" (2018)."""


def row_dropout(x: Tensor, seed: Tensor, probability: float, index: int) -> Tensor:
    """Set each element to zero with a probability p and divide the others by 1 - p.

    Args:
        x: (B, ...) float.
        seed: (B,) int64 in [0, 2^31), drawn from the rows' random streams.
        probability: p, in [0, 1).
        index: index of this dropout in the network, >= 0; dropouts of equal seed and index have the same mask.

    Returns:
        (B, ...), of the shape and dtype of `x`.
    """
    element = torch.arange(x[0].numel(), dtype=torch.int32, device=x.device)
    key = _mix(seed.to(torch.int32) ^ _mix(torch.full_like(seed, index + 1, dtype=torch.int32)))
    word = _mix(_mix(element) + key[:, None])
    # Words are uniform over the signed 32-bit integers.
    keep = word >= round(probability * _WORD) - _WORD // 2
    return torch.where(keep.view_as(x), x / (1 - probability), 0)


def _mix(word: Tensor) -> Tensor:
    """Hash int32 words by a bijection."""
    first, second = (_signed(multiplier) for multiplier in _MULTIPLIERS)
    word = (word ^ _shift_right(word, 16)) * first
    word = (word ^ _shift_right(word, 15)) * second
    return word ^ _shift_right(word, 16)


def _shift_right(word: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros, as for unsigned words; torch's shift repeats the sign bit."""
    return (word >> bits) & (2 ** (32 - bits) - 1)


def _signed(word: int) -> int:
    return word - _WORD if word >= _WORD // 2 else word
