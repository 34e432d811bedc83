"""Dropout whose mask is a function of a row's seed: the same for any number of workers, resume or device.

torch's dropout draws from the generator of a process. Streams of `RowRandom` would do, but they run on the
CPU, and a network needs millions of numbers for each image. So the mask is a hash of (seed of the row, place
of the dropout in the network, index of the element), in integers that wrap alike on every device.
"""

import torch
from torch import Tensor

_WORD = 2**32
_MULTIPLIERS = (0x7FEB352D, 0x846CA68B)
"""Of the 32-bit mixing function of Wellons, "Prospecting for Hash Functions" (2018)."""


def row_dropout(x: Tensor, seed: Tensor, probability: float, place: int) -> Tensor:
    """Set elements to zero with a probability and divide the others by the rest of it.

    Args:
        x: (B, ...).
        seed: (B,) int64 in [0, 2^31), drawn from the rows' random streams.
        probability: in [0, 1).
        place: tells dropouts of one network apart, >= 0.

    Returns:
        As `x`.
    """
    index = torch.arange(x[0].numel(), dtype=torch.int32, device=x.device)
    key = _mix(seed.to(torch.int32) ^ _mix(torch.full_like(seed, place + 1, dtype=torch.int32)))
    word = _mix(_mix(index) + key[:, None])
    keep = word >= round(probability * _WORD) - _WORD // 2
    return torch.where(keep.view_as(x), x / (1 - probability), 0)


def _mix(word: Tensor) -> Tensor:
    """Scramble int32 words, one to one."""
    first, second = (_signed(multiplier) for multiplier in _MULTIPLIERS)
    word = (word ^ _shift_right(word, 16)) * first
    word = (word ^ _shift_right(word, 15)) * second
    return word ^ _shift_right(word, 16)


def _shift_right(word: Tensor, bits: int) -> Tensor:
    """Shift as if unsigned."""
    return (word >> bits) & (2 ** (32 - bits) - 1)


def _signed(word: int) -> int:
    return word - _WORD if word >= _WORD // 2 else word
