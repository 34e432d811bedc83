"""Philox4x64-10 with torch operations, on any device; 64-bit words are int64, whose arithmetic wraps."""

import torch
from torch import Tensor

from dpt_ray.core.philox.distribution import ANGLE, FRACTION, FRACTION_MASK, Distribution, words_of

_WORD = 2**64
_HALF_MASK = 2**32 - 1
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
"""Salmon et al., section 3.3: the golden ratio and sqrt(3) - 1, as fractions of 2^64."""

ROUNDS = 10

Block = tuple[Tensor, Tensor, Tensor, Tensor]


def draw(seeds: Tensor, index: int, count: int, distribution: Distribution, high: int = 0) -> Tensor:
    """Draw `count` numbers from each stream; see `host.draw`.

    Args:
        seeds: int64 (streams,).
        index: index of the draw, >= 0.
        count: numbers of each stream.
        distribution: their distribution.
        high: bound of integers, in 1..2^31; for integers only.

    Returns:
        (streams, count) on the device of the seeds: int64 for integers, otherwise float32.
    """
    words = _words(seeds, index, words_of(distribution, count))
    if distribution == "integers":
        carry = _shift_right((words & _HALF_MASK) * high, 32)
        return _shift_right(_shift_right(words, 32) * high + carry, 32)
    low, high_half = words & FRACTION_MASK, (words >> 32) & FRACTION_MASK
    if distribution == "uniform":
        numbers = torch.stack([low, high_half], dim=2).float() * FRACTION
    else:
        radius = (((low.float() + 1) * FRACTION).log() * -2).sqrt()
        angle = high_half.float() * ANGLE
        numbers = torch.stack([angle.cos() * radius, angle.sin() * radius], dim=2)
    return numbers.flatten(1)[:, :count]


def philox4x64(counter: Block, key: tuple[Tensor, Tensor]) -> Block:
    """Return the random words of counters under keys; all are int64 tensors of shapes that broadcast."""
    c0, c1, c2, c3 = counter
    for number in range(ROUNDS):
        k0, k1 = (word + _signed(number * step) for word, step in zip(key, KEY_STEPS, strict=True))
        high0, low0 = _product(c0, MULTIPLIERS[0])
        high1, low1 = _product(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
    return c0, c1, c2, c3


def _words(seeds: Tensor, index: int, count: int) -> Tensor:
    """Return `count` words of each stream, int64 (streams, count)."""
    block = torch.arange(1, (count + 3) // 4 + 1, device=seeds.device)
    zero = torch.zeros((), dtype=torch.int64, device=seeds.device)
    words = philox4x64((block, zero + index, zero, zero), (seeds[:, None], zero))
    return torch.stack(words, dim=2).flatten(1)[:, :count]


def _product(word: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Return the high and the low word of the unsigned product of 128 bits, from products of halves of words."""
    low, high = word & _HALF_MASK, _shift_right(word, 32)
    factor_low, factor_high = factor & _HALF_MASK, factor >> 32
    middle, other = low * factor_high, high * factor_low
    carries = _shift_right(low * factor_low, 32) + (middle & _HALF_MASK) + (other & _HALF_MASK)
    upper = high * factor_high + _shift_right(middle, 32) + _shift_right(other, 32) + (carries >> 32)
    return upper, word * _signed(factor)


def _shift_right(word: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros, as for unsigned words; torch's shift repeats the sign bit."""
    return (word >> bits) & (2 ** (64 - bits) - 1)


def _signed(word: int) -> int:
    """Return the int64 of the same bits modulo 2^64."""
    word %= _WORD
    return word - _WORD if word >= _WORD // 2 else word
